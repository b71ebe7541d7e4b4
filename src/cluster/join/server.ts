/**
 * Where new hosts join: one TCP port, TLS with the cluster's own authority. It answers one question, and to a wrong token
 * always the same; and what time it is here, which each answer over HTTP tells anyway.
 */
import express, { type ErrorRequestHandler } from 'express';
import { createServer, type Server } from 'node:https';
import { isIP } from 'node:net';
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { AppError, hasCode } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { State } from '../../state/state.js';
import { urlsOf } from '../formation/membership.js';
import { BODY_LIMIT_BYTES, type JoinAnswer, joinRequest, type JoinRequestBody } from './messages.js';
import type { Tokens } from './tokens.js';

export interface JoinServerDeps {
  readonly advertise: string;
  readonly port: number;
  readonly state: Pick<State, 'get' | 'range'>;
  readonly tokens: Tokens;
  /** Chain and key that this host shows. */
  readonly tls: () => { readonly cert: string; readonly key: string };
  /** What a host that is let in gets. */
  readonly answer: () => Promise<JoinAnswer>;
}

export interface JoinServer {
  close(): void;
}

const ANSWER_MS = 15_000;
/** Who guesses at a secret of 192 bits gets so many tries a second, all guessers together. */
const FAILURES_PER_SECOND = 5;
const RETRY_MS = 2000;
const MAX_CONNECTIONS = 64;

/** Listens as soon as the address is there, and goes on trying. */
export function startJoinServer(ctx: Ctx, deps: JoinServerDeps): JoinServer {
  const app = createJoinApp(ctx, deps);
  const closed = new AbortController();
  let server: Server | undefined;
  void (async () => {
    let told = '';
    while (!closed.signal.aborted && !ctx.signal.aborted) {
      try {
        server = await listen(app, deps);
        ctx.log.info({ address: deps.advertise, port: deps.port }, 'hosts can join here');
        return;
      } catch (err) {
        const text = String(err);
        if (text !== told) ctx.log.warn({ err, port: deps.port }, 'hosts cannot join here yet');
        told = text;
        await sleep(RETRY_MS, closed.signal);
      }
    }
  })();
  return {
    close() {
      closed.abort();
      server?.close();
      server?.closeAllConnections();
    },
  };
}

function listen(app: ReturnType<typeof createJoinApp>, deps: JoinServerDeps): Promise<Server> {
  const server = createServer({ ...deps.tls(), minVersion: 'TLSv1.3' }, app);
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = ANSWER_MS;
  server.headersTimeout = ANSWER_MS;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(deps.port, deps.advertise, () => {
      server.off('error', reject);
      server.on('error', () => undefined);
      server.unref();
      resolve(server);
    });
  });
}

export function createJoinApp(ctx: Ctx, deps: JoinServerDeps) {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  let failures = 0;
  const easing = setInterval(() => (failures = 0), 1000).unref();
  ctx.signal.addEventListener('abort', () => {
    clearInterval(easing);
  });
  app.post('/v1/join', express.json({ limit: BODY_LIMIT_BYTES }), async (request, response) => {
    const limited = withDeadline(ctx, ANSWER_MS);
    if (failures >= FAILURES_PER_SECOND)
      throw new AppError('unavailable', 'too many wrong tokens: try again later');
    const parsed = joinRequest.safeParse(request.body);
    if (!parsed.success)
      throw new AppError('invalid_argument', 'this is no request to join that is understood here');
    await deps.tokens.use(limited, parsed.data.id, parsed.data.secret).catch((reason: unknown) => {
      if (hasCode(reason, 'invalid_argument')) failures += 1;
      throw reason;
    });
    await refuseDoubles(limited, deps, parsed.data);
    ctx.log.info({ node: parsed.data.node, hostname: parsed.data.hostname }, 'a host joins');
    response.json(await deps.answer());
  });
  app.get('/v1/clock', (_request, response) => {
    response.json({ now: Date.now() });
  });
  app.use((_request, _response) => {
    throw new AppError('not_found', 'there is nothing but POST /v1/join here');
  });
  const failed: ErrorRequestHandler = (reason: unknown, _request, response, _next) => {
    const error = AppError.from(reason, 'invalid_argument');
    ctx.log.warn({ err: error }, 'a host was not let in');
    const status = hasCode(error, 'invalid_argument') ? 403 : hasCode(error, 'not_found') ? 404 : 409;
    response.status(status).json({ error: { code: error.code, message: error.message } });
  };
  app.use(failed);
  return app;
}

/** Cloned machines have one name, and a copied setting one address. */
async function refuseDoubles(ctx: Ctx, { state }: JoinServerDeps, asked: JoinRequestBody): Promise<void> {
  if (isIP(asked.advertise) === 0)
    throw new AppError('invalid_argument', 'the address to advertise is no IP address');
  const { peerUrl } = urlsOf(asked.advertise, asked.port);
  const { entries } = await state.range(ctx, keys.peers);
  const peers = entries.map(({ key, value }) => records.peer.decode(key, value));
  const namesake = peers.find(({ node }) => node === asked.node);
  const isAlive = async (node: string) => (await state.get(ctx, keys.alive(node))) !== null;
  if (namesake && namesake.peerUrl !== peerUrl && (await isAlive(asked.node)))
    throw new AppError(
      'conflict',
      `a host with the name ${asked.node} is in the cluster and alive (${namesake.hostname}): cloned machines have one ` +
        'engine ID. Stop the engine, remove /var/lib/docker/engine-id (or /etc/docker/key.json) and start it; or set NODE_ID',
    );
  const neighbour = peers.find((peer) => peer.peerUrl === peerUrl && peer.node !== asked.node);
  if (neighbour && (await isAlive(neighbour.node)))
    throw new AppError(
      'conflict',
      `the address ${asked.advertise} is that of ${neighbour.hostname} in the cluster, which is alive: give this host ` +
        'its own with --advertise',
    );
}
