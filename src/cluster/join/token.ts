/**
 * The line that a new host is given: where hosts of the cluster are, whom to believe (the sum of the authority's
 * certificate), and what to be let in with. It is good for joining alone.
 */
import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../../errors.js';

const shape = z.object({
  /** `host:port` */
  addresses: z.array(z.string().min(3).max(300)).max(16).readonly(),
  /** SHA-256 of the authority's certificate (DER), hexadecimal. */
  authority: z.string().regex(/^[0-9a-f]{64}$/),
  id: z.string().regex(/^[a-z0-9]{8,32}$/),
  secret: z.string().regex(/^[A-Za-z0-9_-]{20,100}$/),
});
export type JoinToken = z.infer<typeof shape>;

const PREFIX = 'openebs-join-1-';
const SUM_LENGTH = 8;

export function newTokenId(): string {
  return randomBytes(6).toString('hex');
}

export function newTokenSecret(): string {
  return randomBytes(24).toString('base64url');
}

export function sumOf(text: string | Buffer): string {
  return createHash('sha256').update(text).digest('hex');
}

export function formatToken(token: JoinToken): string {
  const body = Buffer.from(JSON.stringify(token)).toString('base64url');
  return `${PREFIX}${body}-${sumOf(body).slice(0, SUM_LENGTH)}`;
}

/** @throws AppError `invalid_argument`; never repeats the text, which is a secret */
export function parseToken(given: string): JoinToken {
  const text = given.trim();
  if (!text.startsWith('openebs-join-')) throw refuse('it does not begin with openebs-join-');
  if (!text.startsWith(PREFIX)) throw refuse('it is of another version of this plugin');
  const [, body = '', sum = ''] = /^openebs-join-1-([A-Za-z0-9_-]+)-([0-9a-f]+)$/.exec(text) ?? [];
  if (sum.length !== SUM_LENGTH || !sumOf(body).startsWith(sum)) throw refuse('it is not whole');
  try {
    return shape.parse(JSON.parse(Buffer.from(body, 'base64url').toString('utf8')));
  } catch {
    throw refuse('it is not one of this plugin');
  }
}

function refuse(why: string): AppError {
  return new AppError(
    'invalid_argument',
    `this is no token to join with: ${why}. Copy the whole line that "docker openebs cluster token create" prints on a ` +
      'host of the cluster',
  );
}
