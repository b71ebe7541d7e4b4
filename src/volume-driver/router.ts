/**
 * The VolumeDriver protocol over HTTP.
 *
 * Errors are answered as `{"Err": text}` with status 200: Docker then shows `create db: text`; with any other
 * status it puts `VolumeDriver.Create:` between. One call is different:
 *
 * INVARIANT: Get answers Err only if the volume is positively absent (`not_found`) or cannot exist
 * (`invalid_argument`). Docker takes ANY answer of Get that is not a volume for "no such volume" and forgets its
 * labels, options and the containers that use it; it even sends Remove for a volume in use. Only a connection
 * that breaks means "cannot tell", so a Get that fails otherwise is dropped without an answer. The engine then
 * repeats it up to four times within 15 s, WITHOUT its body, and so it does when it gave up waiting for the answer, which we
 * may not have noticed: a Get without a body is always dropped.
 *
 * A call's signal aborts when its client leaves before the answer, or when the time for it is over. What a call
 * does after its answer was given up is the domain's to roll back (VolumeService.mount says so).
 */
import { randomUUID } from 'node:crypto';
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import type { Ctx } from '../context.js';
import { AppError, hasCode } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import type { Log } from '../log.js';
import type { VolumeService } from '../volumes/volume-service.js';
import { createEndpoints, type Endpoint } from './endpoints.js';
import { isEmptyBody, type Answer } from './messages.js';

export interface RouterDeps {
  readonly service: VolumeService;
  readonly log: Log;
  /** What the service waits for before it can do anything; null when it is there. */
  readonly waitsFor?: () => string | null;
  /** Instead of the endpoints' own limits. */
  readonly requestTimeoutMs?: number;
}

const contentType = 'application/vnd.docker.plugins.v1.2+json';
const bodyLimitBytes = 1024 ** 2;
/** The calls that change something. */
const actions = new Set(['Create', 'Mount', 'Unmount', 'Remove'].map((call) => `/VolumeDriver.${call}`));
const getPath = '/VolumeDriver.Get';

function send(response: Response, status: number, answer: Answer): void {
  // Not res.json(): it would append a charset to the type.
  response.writeHead(status, { 'Content-Type': contentType }).end(JSON.stringify(answer));
}

function bodyOf(request: Request): Buffer | undefined {
  const body: unknown = request.body;
  return Buffer.isBuffer(body) ? body : undefined;
}

/** Settles with the call, or rejects when the time is over although the call goes on. */
async function within(signal: AbortSignal, call: Answer | Promise<Answer>): Promise<Answer> {
  let stop: (() => void) | undefined;
  const over = new Promise<never>((_, reject) => {
    stop = () => {
      reject(AppError.from(signal.reason, 'canceled'));
    };
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([call, over]);
  } finally {
    if (stop) signal.removeEventListener('abort', stop);
  }
}

/** A call without its body can only be answered with why its first one was not. */
function refuseRepeat(deps: RouterDeps, path: string, body: Buffer | undefined): void {
  if (path === getPath && isEmptyBody(body)) {
    throw new AppError('unavailable', 'a repeated Get came without its body');
  }
  const waitsFor = deps.waitsFor?.() ?? null;
  if (!actions.has(path) || !isEmptyBody(body) || waitsFor === null) return;
  throw new AppError('unavailable', `the driver is still starting: it waits for ${waitsFor}`);
}

function logFailure(log: Log, path: string, error: AppError, startMs: number): void {
  const fields = { err: error, call: path.slice(1), durationMs: Math.round(performance.now() - startMs) };
  // Docker asks Get for every name it is about to create: absence is an answer, not a failure.
  if (error.code === 'not_found' && path === getPath) log.debug(fields, 'volume is absent');
  else log.error(fields, 'request failed');
}

function fail(path: string, response: Response, error: AppError): void {
  if (path === getPath && !hasCode(error, 'not_found', 'invalid_argument')) {
    response.destroy();
  } else if (!response.destroyed) {
    send(response, 200, { Err: error.message });
  }
}

function createHandler(deps: RouterDeps, path: string, endpoint: Endpoint) {
  return async (request: Request, response: Response): Promise<void> => {
    const requestId = randomUUID();
    const log = deps.log.child({ requestId });
    const startMs = performance.now();
    const controller = new AbortController();
    const timeoutMs = deps.requestTimeoutMs ?? endpoint.timeoutMs;
    const timer = setTimeout(() => {
      const text = `no result within ${String(timeoutMs / 1000)} s; see the plugin's log, then try again`;
      controller.abort(new AppError('deadline_exceeded', text));
    }, timeoutMs);
    response.once('close', () => {
      if (!response.writableEnded) controller.abort(new AppError('canceled', 'the client went away'));
    });
    // The router is loaded behind the socket: the client may have left while its call waited for that.
    if (request.socket.destroyed) controller.abort(new AppError('canceled', 'the client went away'));
    const ctx: Ctx = { log, signal: controller.signal, requestId };
    try {
      if (ctx.signal.aborted) throw AppError.from(ctx.signal.reason, 'canceled');
      const body = bodyOf(request);
      refuseRepeat(deps, path, body);
      const answer = await within(ctx.signal, endpoint.answer(ctx, body));
      if (actions.has(path)) await failPoint('before answer');
      send(response, 200, answer);
      if (actions.has(path)) await failPoint('after answer');
      log.debug({ call: path.slice(1), durationMs: Math.round(performance.now() - startMs) }, 'answered');
    } catch (reason) {
      const error = AppError.from(reason);
      logFailure(log, path, error, startMs);
      fail(path, response, error);
    } finally {
      clearTimeout(timer);
    }
  };
}

/** What fails before a handler has the request: a body too large, or one that breaks off. */
function createErrorHandler(log: Log): ErrorRequestHandler {
  return (reason: unknown, request, response, _next) => {
    const tooLarge = reason instanceof Error && 'status' in reason && reason.status === 413;
    const error = tooLarge
      ? new AppError('invalid_argument', `the request body is larger than ${String(bodyLimitBytes)} bytes`)
      : AppError.from(reason, 'invalid_argument', 'the request body cannot be read');
    logFailure(log.child({ requestId: randomUUID() }), request.path, error, performance.now());
    fail(request.path, response, error);
  };
}

export function createRouter(deps: RouterDeps): Express {
  const app = express();
  app.disable('x-powered-by').disable('etag').enable('case sensitive routing').enable('strict routing');
  // Engines send no Content-Type, so the body is read whatever it claims to be.
  const readBody = express.raw({ type: () => true, limit: bodyLimitBytes });
  for (const [path, endpoint] of createEndpoints(deps.service)) {
    app.post(path, readBody, createHandler(deps, path, endpoint));
    app.all(path, (request, response) => {
      response.setHeader('Allow', 'POST');
      send(response, 405, { Err: `${request.method} is not allowed here: use POST` });
    });
  }
  app.use((_request, response) => {
    send(response, 404, { Err: 'unknown path: this is a Docker volume driver' });
  });
  app.use(createErrorHandler(deps.log));
  return app;
}
