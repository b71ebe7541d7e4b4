import { AppError, type ErrorCode } from '../errors.js';

/** Where we were talking to, for the sentence the user reads. */
export interface Target {
  readonly endpoints: readonly string[];
  readonly username?: string;
}

/**
 * What a failed call means for the next step:
 * `refused` it was certainly not carried out and may be sent again; `doubt` it may have been carried out;
 * `no_space` the same, etcd is known to answer so after having written; `token` the login has run out; `final`
 * sending it again would only fail again.
 */
export type Verdict = 'refused' | 'doubt' | 'no_space' | 'token' | 'final';

export interface Failure {
  readonly verdict: Verdict;
  readonly error: AppError;
}

interface Rule {
  readonly match: RegExp;
  readonly verdict: Verdict;
  readonly code: ErrorCode;
  /** `at` is "etcd at <endpoints>". */
  readonly say: (at: string, target: Target, cause: string) => string;
}

/** Replaces etcd's wording on the wire, because etcd3 answers the original with an endless login loop. */
export const expiredToken = 'the login token is no longer valid';

const neverSent =
  /No connection established|Name resolution failed|Channel closed before call|Failed to connect|already closed/;
const tlsTrouble =
  /certificate|self.signed|unable to verify|\bSSL\b|\bTLS\b|EPROTO|wrong version|altname|alert/i;

/** First match wins. */
const rules: readonly Rule[] = [
  {
    match: /database space exceeded/,
    verdict: 'no_space',
    code: 'no_space',
    say: (at) =>
      `${at} has used up its space quota and takes no writes: compact it, defragment each member, then disarm ` +
      'the NOSPACE alarm',
  },
  {
    match: /etcdserver: no leader/,
    verdict: 'refused',
    code: 'no_leader',
    say: (at) => `${at} has no leader: bring back enough of its members for a majority`,
  },
  {
    match: new RegExp(`${expiredToken}|invalid auth token|revision of auth store is old`),
    verdict: 'token',
    code: 'unavailable',
    say: (at) =>
      `${at} keeps refusing the login token it gave out: check the clocks and auth settings of etcd`,
  },
  {
    match: /authentication failed, invalid user|user name not found/,
    verdict: 'final',
    code: 'unavailable',
    say: (at, { username }) =>
      `${at} refuses the password of user ${username ?? '(none)'}: correct the etcd user name or password`,
  },
  {
    match: /authentication is not enabled/,
    verdict: 'final',
    code: 'unavailable',
    say: (at) =>
      `${at} has no authentication switched on, but a user name is set: remove the etcd user name and password ` +
      'from the settings, or run "etcdctl auth enable"',
  },
  {
    match: /user name is empty/,
    verdict: 'final',
    code: 'unavailable',
    say: (at) => `${at} asks for a login: set an etcd user name and password`,
  },
  {
    match: /permission denied/i,
    verdict: 'final',
    code: 'unavailable',
    say: (at, { username }) =>
      `${at} denies user ${username ?? '(none)'} access: grant its role readwrite on the prefix /openebs/`,
  },
  {
    match: /requested lease not found|Lease .* is expired or revoked/,
    verdict: 'final',
    code: 'conflict',
    say: (at) => `${at} no longer has the lease this write belongs to: it ran out; grant a new one`,
  },
  {
    match:
      /too many operations|duplicate key given|request is too large|message larger than max|key is not provided/,
    verdict: 'final',
    code: 'invalid_argument',
    say: (at, _target, cause) => `${at} cannot take this transaction (${cause}): make it smaller or split it`,
  },
  {
    match: /revision has been compacted/,
    verdict: 'final',
    code: 'conflict',
    say: (at) => `${at} no longer has that revision: it has been compacted`,
  },
  {
    match: /too many requests/,
    verdict: 'refused',
    code: 'unavailable',
    say: (at) => `${at} is overloaded and refuses requests: try again later`,
  },
  {
    match: tlsTrouble,
    verdict: 'refused',
    code: 'unavailable',
    say: (at, _target, cause) =>
      `the TLS connection to ${at} fails (${cause}): check that CA, client certificate and key belong to this ` +
      'etcd and have not expired',
  },
  {
    match: neverSent,
    verdict: 'refused',
    code: 'unavailable',
    say: (at, _target, cause) =>
      `${at} cannot be reached (${cause}): check that it runs, that this host can reach it and that the scheme ` +
      '(http or https) is right',
  },
  {
    match: /DEADLINE_EXCEEDED|Deadline exceeded/i,
    verdict: 'doubt',
    code: 'deadline_exceeded',
    say: (at) => `${at} did not answer in time: check that it is not stopped or overloaded`,
  },
];

const fallback: Rule = {
  match: /(?:)/,
  verdict: 'doubt',
  code: 'unavailable',
  say: (at, _target, cause) => `${at} failed (${cause}): check its log and the network to it`,
};

/** Translates whatever etcd3 or gRPC threw. An AppError of our own is final. */
export function classify(reason: unknown, target: Target): Failure {
  if (reason instanceof AppError) return { verdict: 'final', error: reason };
  const text = reason instanceof Error ? reason.message : String(reason);
  const rule = rules.find(({ match }) => match.test(text)) ?? fallback;
  const message = rule.say(nameOf(target), target, shorten(text));
  return { verdict: rule.verdict, error: new AppError(rule.code, message, { cause: reason }) };
}

export function nameOf(target: Target): string {
  return `etcd at ${target.endpoints.join(', ')}`;
}

/** gRPC and OpenSSL wrap the cause in words of their own, sometimes over several lines. */
function shorten(text: string): string {
  const inner = /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/s.exec(text)?.[1] ?? text;
  return inner
    .replace(/^(?:\w+Error: )?\d+ [A-Z_]+: /, '')
    .replace(/ \(\d{4}-[\d-]+T[\d:.]+Z\)/, '')
    .replace(/^.*:SSL routines:[^:]*:(?:ssl\/tls )?([^:]*):.*$/s, '$1')
    .replace(/; if the root CA is installed locally.*$/s, '')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 200);
}
