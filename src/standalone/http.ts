/** What monitoring asks of a registrator that runs alone. */
import { createServer, type Server } from 'node:http';
import express from 'express';
import type { Log } from '../log.js';
import type { Running } from './run.js';

/** Null: it has not started yet, as the engine does not answer. */
export type Current = () => Running | null;

/** `listening` rejects with what the kernel says when the address cannot be had. */
export function serveHttp(
  { host, port }: { readonly host: string; readonly port: number },
  current: Current,
  log: Log,
): { readonly listening: Promise<void>; close(): void } {
  const server = createServer(router(current));
  const listening = listen(server, host, port).then(() => {
    log.info({ host, port }, 'metrics and health are served');
  });
  return {
    listening,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // Later ones, as for want of descriptors, are of single connections.
    server.on('error', () => undefined);
    server.listen(port, host, resolve);
  });
}

function router(current: Current) {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  // That this process answers. What it depends on may be away: a restart would not bring that back.
  app.get('/healthz', (_request, response) => {
    response.type('text').send('ok\n');
  });
  app.get('/readyz', (_request, response) => {
    const ready = current()?.registrator.stats().ready === true;
    response
      .status(ready ? 200 : 503)
      .type('text')
      .send(ready ? 'ready\n' : 'not all is registered yet\n');
  });
  app.get('/v1/registry', (_request, response) => {
    response.json(current()?.registrator.stats() ?? { ready: false });
  });
  app.get('/metrics', async (_request, response) => {
    const running = current();
    if (!running) response.status(503).type('text').send('not started yet\n');
    else response.set('content-type', running.metrics.contentType).send(await running.metrics.text());
  });
  return app;
}
