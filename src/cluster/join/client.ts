/** Asks hosts of the cluster to be let in, one after the other. */
import { X509Certificate } from 'node:crypto';
import { request } from 'node:https';
import { connect } from 'node:tls';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { hostPort } from '../formation/membership.js';
import { BODY_LIMIT_BYTES, type JoinAnswer, joinAnswer, refusal } from './messages.js';
import { type JoinToken, sumOf } from './token.js';

export interface Candidate {
  readonly host: string;
  readonly port: number;
}

export interface Joining {
  readonly token: JoinToken;
  readonly node: string;
  readonly hostname: string;
  /** Null: the address that this host has towards the others. */
  readonly advertise: string | null;
  /** etcd's client port here. */
  readonly port: number;
}

export interface Joined extends JoinAnswer {
  readonly advertise: string;
}

const CONNECT_MS = 4000;
const ANSWER_MS = 20_000;

/**
 * @throws AppError `invalid_argument` or `conflict` with the cluster's own words when it says no, `unavailable` with what
 * each of them failed with
 */
export async function askToJoin(
  ctx: Ctx,
  candidates: readonly Candidate[],
  joining: Joining,
): Promise<Joined> {
  const failures: string[] = [];
  for (const candidate of candidates) {
    const at = hostPort(candidate.host, candidate.port);
    try {
      const { authority, localAddress } = await meet(ctx, candidate, joining.token.authority);
      const advertise = joining.advertise ?? localAddress;
      if (/^(127\.|::1$)/.test(advertise))
        throw new AppError(
          'invalid_argument',
          `this host reaches ${at} over loopback: name its address with --advertise`,
        );
      const answer = await ask(ctx, candidate, { authority, body: bodyOf(joining, advertise) });
      return { ...answer, advertise };
    } catch (reason) {
      if (reason instanceof AppError && reason.code !== 'unavailable') throw reason;
      failures.push(`${at}: ${AppError.from(reason).message}`);
    }
  }
  throw new AppError(
    'unavailable',
    candidates.length === 0
      ? 'no host of the cluster was found: name one with --discovery static:ADDRESS'
      : `no host of the cluster could be asked (${failures.join('; ')}): check that one of them runs, and that this ` +
          'host reaches it; or name another with --discovery static:ADDRESS',
  );
}

function bodyOf({ token, node, hostname, port }: Joining, advertise: string): string {
  return JSON.stringify({ id: token.id, secret: token.secret, node, hostname, advertise, port });
}

/** Whose authority is another's is told nothing, above all not the secret. */
function meet(
  ctx: Ctx,
  { host, port }: Candidate,
  pinned: string,
): Promise<{ authority: string; localAddress: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      rejectUnauthorized: false,
      servername: 'localhost',
      minVersion: 'TLSv1.3',
    });
    const timer = setTimeout(() => {
      fail('it does not answer');
    }, CONNECT_MS);
    const end = () => {
      clearTimeout(timer);
      ctx.signal.removeEventListener('abort', giveUp);
      socket.destroy();
    };
    const fail = (why: string) => {
      end();
      reject(new AppError('unavailable', why));
    };
    const giveUp = () => {
      fail('given up');
    };
    ctx.signal.addEventListener('abort', giveUp);
    socket.once('error', (reason: Error) => {
      fail(reason.message);
    });
    socket.once('secureConnect', () => {
      const { issuerCertificate } = socket.getPeerCertificate(true) as {
        issuerCertificate?: { raw?: Buffer };
      };
      const raw = issuerCertificate?.raw;
      const { localAddress = '' } = socket;
      if (!raw || sumOf(raw) !== pinned) {
        fail('it is not of the cluster that the token is for: its certificate is of another authority');
        return;
      }
      end();
      resolve({
        authority: new X509Certificate(raw).toString(),
        localAddress: localAddress.replace(/^::ffff:/, ''),
      });
    });
  });
}

function ask(
  ctx: Ctx,
  { host, port }: Candidate,
  { authority, body }: { authority: string; body: string },
): Promise<JoinAnswer> {
  return new Promise((resolve, reject) => {
    const fail = (reason: unknown) => {
      reject(AppError.from(reason, 'unavailable'));
    };
    const signal = AbortSignal.any([ctx.signal, AbortSignal.timeout(ANSWER_MS)]);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const tls = { ca: authority, servername: 'localhost', minVersion: 'TLSv1.3' } as const;
    const outgoing = request(
      { host, port, path: '/v1/join', method: 'POST', headers, signal, agent: false, ...tls },
      (response) => {
        const parts: Buffer[] = [];
        let length = 0;
        response.on('data', (part: Buffer) => {
          parts.push(part);
          length += part.length;
          if (length > BODY_LIMIT_BYTES)
            response.destroy(new AppError('unavailable', 'its answer is too long'));
        });
        response.on('error', fail);
        response.on('end', () => {
          try {
            resolve(read(response.statusCode ?? 0, Buffer.concat(parts).toString('utf8')));
          } catch (reason) {
            fail(reason);
          }
        });
      },
    );
    outgoing.on('error', fail);
    outgoing.end(body);
  });
}

function read(status: number, text: string): JoinAnswer {
  const json = parse(text);
  if (status === 200) {
    const answer = joinAnswer.safeParse(json);
    if (answer.success) return answer.data;
    throw new AppError(
      'unavailable',
      'its answer is not understood: is it of another version of the plugin?',
    );
  }
  const no = refusal.safeParse(json);
  if (!no.success) throw new AppError('unavailable', `it answers with status ${String(status)}`);
  const { code, message } = no.data.error;
  throw new AppError(code === 'conflict' || code === 'invalid_argument' ? code : 'unavailable', message);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
