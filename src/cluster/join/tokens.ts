/** Join tokens in shared state: the secret's sum, until when, and how often it was used. */
import { timingSafeEqual } from 'node:crypto';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { keys } from '../../state/keys.js';
import { type JoinTokenRecord, records } from '../../state/records.js';
import type { State } from '../../state/state.js';
import { newTokenId, newTokenSecret, sumOf } from './token.js';

export const tokenLife = { defaultMs: 60 * 60_000, minMs: 60_000, maxMs: 7 * 24 * 60 * 60_000 } as const;
/** An expired one is shown for so long, so that who wonders why it is refused finds it. */
const SHOWN_MS = 24 * 60 * 60_000;

export interface CreatedToken {
  readonly record: JoinTokenRecord;
  readonly secret: string;
}

export interface Tokens {
  create(ctx: Ctx, ttlMs?: number): Promise<CreatedToken>;
  /** The newest first. */
  list(ctx: Ctx): Promise<JoinTokenRecord[]>;
  /** @throws `not_found` */
  revoke(ctx: Ctx, id: string): Promise<void>;
  /** Counts it. @throws `invalid_argument` for one that is wrong, revoked or expired, without saying which of the first two */
  use(ctx: Ctx, id: string, secret: string): Promise<void>;
}

type TokenState = Pick<State, 'get' | 'range' | 'transact'>;

export function createTokens(state: TokenState, now: () => number = Date.now): Tokens {
  return {
    create: (ctx, ttlMs) => create(ctx, state, now(), ttlMs),
    list: (ctx) => list(ctx, state, now()),
    async revoke(ctx, id) {
      const entry = await state.get(ctx, keys.joinToken(id));
      if (!entry) throw new AppError('not_found', `there is no join token ${id}`);
      await state.transact(ctx, { if: [], then: [{ delete: entry.key }] });
    },
    async use(ctx, id, secret) {
      const entry = await state.get(ctx, keys.joinToken(id));
      const record = entry && records.joinToken.decode(entry.key, entry.value);
      if (!entry || !record || !isSame(sumOf(secret), record.secretSum)) throw unknown();
      if (Date.parse(record.expiresAt) <= now()) throw expired(record, now());
      // Counted for people: another that joins at the same moment may take this count away.
      const value = records.joinToken.encode({ ...record, joined: record.joined + 1 });
      await state.transact(ctx, {
        if: [{ key: entry.key, modRevision: entry.modRevision }],
        then: [{ put: entry.key, value }],
      });
    },
  };
}

async function create(
  ctx: Ctx,
  state: TokenState,
  now: number,
  ttlMs: number = tokenLife.defaultMs,
): Promise<CreatedToken> {
  if (!(ttlMs >= tokenLife.minMs && ttlMs <= tokenLife.maxMs))
    throw new AppError('invalid_argument', 'a join token lives from 1m to 7d');
  const secret = newTokenSecret();
  const record: JoinTokenRecord = {
    schema: 1,
    id: newTokenId(),
    secretSum: sumOf(secret),
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + ttlMs).toISOString(),
    joined: 0,
  };
  await state.transact(ctx, {
    if: [{ key: keys.joinToken(record.id), absent: true }],
    then: [{ put: keys.joinToken(record.id), value: records.joinToken.encode(record) }],
  });
  return { record, secret };
}

async function list(ctx: Ctx, state: TokenState, now: number): Promise<JoinTokenRecord[]> {
  const { entries } = await state.range(ctx, keys.joinTokens);
  const found = entries.map(({ key, value }) => records.joinToken.decode(key, value));
  const old = found.filter(({ expiresAt }) => Date.parse(expiresAt) + SHOWN_MS < now);
  for (const { id } of old) await state.transact(ctx, { if: [], then: [{ delete: keys.joinToken(id) }] });
  return found
    .filter((record) => !old.includes(record))
    .toSorted((one, other) => other.createdAt.localeCompare(one.createdAt));
}

function unknown(): AppError {
  return new AppError(
    'invalid_argument',
    'the join token is not known here: it was revoked, or is of another cluster; make a new one with ' +
      '"docker openebs cluster token create"',
  );
}

function expired({ expiresAt }: JoinTokenRecord, now: number): AppError {
  return new AppError(
    'invalid_argument',
    `the join token has expired (${expiresAt}; it is ${new Date(now).toISOString()} here): make a new one with ` +
      '"docker openebs cluster token create"',
  );
}

function isSame(one: string, other: string): boolean {
  return one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other));
}
