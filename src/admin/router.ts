import { randomUUID } from 'node:crypto';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { AppError, type ErrorCode } from '../errors.js';
import type { Log } from '../log.js';
import type { Entry } from '../state/state.js';
import type { VolumeView } from '../volumes/volume-service.js';
import { addClusterRoutes, addNeighbours, type ClusterDuties } from './cluster-routes.js';
import { eventsQueryOf, parametersOf, type EventsQuery } from './events-query.js';
import type {
  ClusterMessage,
  ErrorMessage,
  EventsMessage,
  HealthMessage,
  NodesMessage,
  RegistryMessage,
  VolumesMessage,
} from './messages.js';
import { redact, redactText } from './redact.js';

export interface AdminDeps {
  health(): HealthMessage;
  cluster(): Promise<ClusterMessage>;
  nodes(): Promise<NodesMessage>;
  /** Records of shared state whose key starts with the prefix. */
  records(prefix: string): Promise<readonly Pick<Entry, 'key' | 'value' | 'modRevision'>[]>;
  volumes(): readonly VolumeView[];
  /** What the journals of all hosts hold. @throws AppError `invalid_argument` for a query that cannot be. */
  events(query: EventsQuery): Promise<EventsMessage>;
  /** Null where the plugin runs no etcd of its own. */
  readonly duties?: ClusterDuties | null;
  registry?(): RegistryMessage | null;
  /** For Prometheus. */
  metrics?(): Promise<MetricsText>;
  readonly log: Log;
}

export interface MetricsText {
  readonly contentType: string;
  readonly text: string;
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
    const body: ErrorMessage = { error: { code: error.code, message: error.message } };
    response.status(statusOf[error.code]).json(body);
  };
}

/** What is there only while the registrator and its metrics are. */
function addObservation(app: Express, deps: AdminDeps): void {
  app.get('/v1/registry', (request, response) => {
    parametersOf(request.query, []);
    if (!deps.registry) throw new AppError('not_found', 'the registrator does not run in this plugin');
    response.json(redact(deps.registry()));
  });
  app.get('/metrics', async (request, response) => {
    parametersOf(request.query, []);
    if (!deps.metrics) throw new AppError('not_found', 'no metrics are kept in this plugin');
    const { contentType, text } = await deps.metrics();
    response.set('content-type', contentType).send(text);
  });
}

/** What the CLI and `make up` read. Secrets never leave, although only root can connect. */
export function createRouter(deps: AdminDeps): Express {
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.get('/v1/health', (_request, response) => {
    response.json(redact(deps.health()));
  });
  app.get('/v1/volumes', (_request, response) => {
    const body: VolumesMessage = { volumes: deps.volumes() };
    response.json(redact(body));
  });
  app.get('/v1/cluster', async (_request, response) => {
    response.json(redact(await deps.cluster()));
  });
  app.get('/v1/nodes', async (_request, response) => {
    response.json(redact(await deps.nodes()));
  });
  app.get('/v1/records', async (request, response) => {
    const { prefix = '' } = parametersOf(request.query, ['prefix']);
    const found = await deps.records(prefix);
    const entries = found.map(({ key, value, modRevision }) => ({
      key,
      modRevision,
      value: redactText(value),
    }));
    response.json({ entries });
  });
  app.get('/v1/events', async (request, response) => {
    const { events, truncated, damaged } = await deps.events(eventsQueryOf(request.query, Date.now()));
    response.json({ events: redact(events), truncated, damaged });
  });
  addObservation(app, deps);
  if (deps.duties) {
    addNeighbours(app, deps.duties);
    addClusterRoutes(app, deps.duties);
  }
  app.use((request, _response) => {
    throw new AppError('not_found', `there is no ${request.method} ${request.path}`);
  });
  app.use(createErrorHandler(deps.log));
  return app;
}
