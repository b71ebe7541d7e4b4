import type { NewTokenMessage, TokenRequest, TokensMessage } from '../../admin/messages.js';
import type { Run, Surroundings } from '../command.js';
import { exitCodes } from '../failure.js';
import { json, table } from '../table.js';
import { durationIn } from '../values.js';
import { forEachName } from './each-name.js';

const PATH = '/v1/cluster/tokens';

export const makeToken: Run = async (call, around) => {
  const ttlMs = durationIn(call, 'ttl');
  const made = await createToken(around, ttlMs === undefined ? {} : { ttlMs });
  if (call.json) around.print(json(made));
  else if (call.has('quiet')) around.print(`${made.token}\n`);
  else printJoin(around, made);
  return exitCodes.ok;
};

export const listTokens: Run = async (call, around) => {
  const { tokens } = await around.admin.get<TokensMessage>(PATH, {}, { shape: { tokens: 'array' } });
  if (call.json) around.print(json({ tokens }));
  else if (call.has('quiet')) around.print(tokens.map(({ id }) => `${id}\n`).join(''));
  else
    around.print(
      table(
        ['TOKEN', 'CREATED', 'EXPIRES', 'JOINED'],
        tokens.map(({ id, createdAt, expiresAt, joined }) => [id, createdAt, expiresAt, String(joined)]),
      ),
    );
  return exitCodes.ok;
};

export const revokeTokens: Run = (call, around) =>
  forEachName(call, around, {
    done: 'revoked',
    act: (id) => around.admin.remove(`${PATH}/${encodeURIComponent(id)}`),
  });

export function createToken({ admin }: Surroundings, request: TokenRequest): Promise<NewTokenMessage> {
  const shape = { token: 'string', id: 'string', expiresAt: 'string' } as const;
  return admin.post<NewTokenMessage>(PATH, request, { shape });
}

/** The line to paste alone on the output; what is for people goes to the error stream. */
export function printJoin(around: Surroundings, { id, token, expiresAt }: NewTokenMessage): void {
  around.complain(
    `until ${expiresAt} other hosts join with this line, each of them (the token is secret, its ID ${id}):\n`,
  );
  around.print(`docker openebs cluster join ${token}\n`);
}
