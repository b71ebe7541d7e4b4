/** What people ask the cluster to do: the body of each request is checked here, and carried out elsewhere. */
import express, { type Express, type Request } from 'express';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { parametersOf } from './events-query.js';
import type {
  BackupMessage,
  BackupsMessage,
  ChangingMessage,
  EndingMessage,
  NeighboursMessage,
  NewTokenMessage,
  NodeSettingsMessage,
  TokenMessage,
  TokensMessage,
} from './messages.js';

export interface ClusterDuties {
  init(wish: { advertise: string; voters?: 1 | 3 | 5 | undefined }): Promise<ChangingMessage>;
  join(wish: {
    token: string;
    advertise?: string | undefined;
    discovery?: string | undefined;
  }): Promise<ChangingMessage>;
  leave(wish: { force: boolean }): Promise<ChangingMessage>;
  recover(wish: { backup?: string | undefined; confirm: string }): Promise<ChangingMessage>;
  end(wish: { purge: boolean; confirm?: string | undefined; force: boolean }): Promise<EndingMessage>;
  makeBackup(): Promise<void>;
  backups(): Promise<readonly BackupMessage[]>;
  neighbours(): Promise<NeighboursMessage['neighbours']>;
  setVoters(voters: 1 | 3 | 5): Promise<void>;
  createToken(ttlMs?: number): Promise<NewTokenMessage>;
  tokens(): Promise<readonly TokenMessage[]>;
  revokeToken(id: string): Promise<void>;
  removeNode(node: string, wish: { force: boolean }): Promise<void>;
  setNode(node: string, wish: NodeWish): Promise<NodeSettingsMessage>;
}

interface NodeWish {
  readonly labels?: Readonly<Record<string, string | null>> | undefined;
  readonly drained?: boolean | undefined;
}

const voters = z.union([z.literal(1), z.literal(3), z.literal(5)], 'must be 1, 3 or 5');
const labelKey = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_./-]{0,62}$/);
const labelValue = z.string().regex(/^[a-zA-Z0-9_.:/-]{0,128}$/);
const bodies = {
  init: z.strictObject({ advertise: z.string(), voters: voters.optional() }),
  join: z.strictObject({
    token: z.string(),
    advertise: z.string().optional(),
    discovery: z.string().optional(),
  }),
  leave: z.strictObject({ force: z.boolean().default(false) }),
  recover: z.strictObject({ backup: z.string().optional(), confirm: z.string() }),
  down: z.strictObject({
    purge: z.boolean().default(false),
    confirm: z.string().optional(),
    force: z.boolean().default(false),
  }),
  voters: z.strictObject({ voters }),
  token: z.strictObject({ ttlMs: z.int().optional() }),
  node: z.strictObject({
    labels: z.record(labelKey, labelValue.nullable()).optional(),
    drained: z.boolean().optional(),
  }),
};

export function addClusterRoutes(app: Express, duties: ClusterDuties): void {
  const body = express.json({ limit: 64 * 1024, type: () => true });
  app.post('/v1/cluster/init', body, async (request, response) => {
    response.json(await duties.init(read(request, bodies.init)));
  });
  app.post('/v1/cluster/join', body, async (request, response) => {
    response.json(await duties.join(read(request, bodies.join)));
  });
  app.post('/v1/cluster/leave', body, async (request, response) => {
    response.json(await duties.leave(read(request, bodies.leave)));
  });
  app.post('/v1/cluster/recover', body, async (request, response) => {
    response.json(await duties.recover(read(request, bodies.recover)));
  });
  app.post('/v1/cluster/down', body, async (request, response) => {
    response.json(await duties.end(read(request, bodies.down)));
  });
  app.post('/v1/cluster/backups', async (_request, response) => {
    await duties.makeBackup();
    const message: BackupsMessage = { backups: await duties.backups() };
    response.json(message);
  });
  app.get('/v1/cluster/backups', async (_request, response) => {
    const message: BackupsMessage = { backups: await duties.backups() };
    response.json(message);
  });
  app.post('/v1/cluster/voters', body, async (request, response) => {
    await duties.setVoters(read(request, bodies.voters).voters);
    response.json({});
  });
  app.post('/v1/cluster/tokens', body, async (request, response) => {
    response.json(await duties.createToken(read(request, bodies.token).ttlMs));
  });
  app.get('/v1/cluster/tokens', async (_request, response) => {
    const message: TokensMessage = { tokens: await duties.tokens() };
    response.json(message);
  });
  app.delete('/v1/cluster/tokens/:id', async (request, response) => {
    await duties.revokeToken(request.params.id);
    response.json({});
  });
  app.delete('/v1/nodes/:node', async (request, response) => {
    const { force } = parametersOf(request.query, ['force']);
    await duties.removeNode(request.params.node, { force: force === '1' });
    response.json({});
  });
  app.post('/v1/nodes/:node/settings', body, async (request, response) => {
    response.json(await duties.setNode(request.params.node, read(request, bodies.node)));
  });
}

export function addNeighbours(app: Express, duties: Pick<ClusterDuties, 'neighbours'>): void {
  app.get('/v1/cluster/neighbours', async (_request, response) => {
    response.json({ neighbours: await duties.neighbours() } satisfies NeighboursMessage);
  });
}

function read<T>(request: Request, shape: z.ZodType<T>): T {
  const parsed = shape.safeParse((request.body as unknown) ?? {});
  if (parsed.success) return parsed.data;
  throw new AppError('invalid_argument', `the request is wrong: ${z.prettifyError(parsed.error)}`);
}
