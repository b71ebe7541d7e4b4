import { randomUUID } from 'node:crypto';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { AppError, type ErrorCode } from '../errors.js';
import type { Log } from '../log.js';
import type { Entry } from '../state/state.js';
import type { VolumeView } from '../volumes/volume-service.js';
import { redact, redactText } from './redact.js';

export interface AdminDeps {
  /** Whatever tells how the plugin is; JSON. */
  health(): unknown;
  /** Records of shared state whose key starts with the prefix. */
  records(prefix: string): Promise<readonly Pick<Entry, 'key' | 'value' | 'modRevision'>[]>;
  volumes(): readonly VolumeView[];
  readonly log: Log;
}

const statusOf: Readonly<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  not_found: 404,
  conflict: 409,
  in_use: 409,
  no_space: 503,
  no_leader: 503,
  unavailable: 503,
  deadline_exceeded: 504,
  canceled: 500,
  internal: 500,
};

function createErrorHandler(log: Log): ErrorRequestHandler {
  return (reason: unknown, request, response, _next) => {
    const error = AppError.from(reason);
    const requestId = randomUUID();
    log.error({ requestId, call: request.path, err: error }, 'admin request failed');
    response.status(statusOf[error.code]).json({ error: { code: error.code, message: error.message } });
  };
}

/** What the CLI and `make up` read. Secrets never leave, although only root can connect. */
export function createRouter(deps: AdminDeps): Express {
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.get('/v1/health', (_request, response) => {
    response.json(redact(deps.health()));
  });
  app.get('/v1/volumes', (_request, response) => {
    response.json({ volumes: redact(deps.volumes()) });
  });
  app.get('/v1/records', async (request, response) => {
    const prefix = request.query['prefix'] ?? '';
    if (typeof prefix !== 'string') throw new AppError('invalid_argument', 'give one prefix');
    const found = await deps.records(prefix);
    const entries = found.map(({ key, value, modRevision }) => ({
      key,
      modRevision,
      value: redactText(value),
    }));
    response.json({ entries });
  });
  app.use((request, _response) => {
    throw new AppError('not_found', `there is no ${request.method} ${request.path}`);
  });
  app.use(createErrorHandler(deps.log));
  return app;
}
