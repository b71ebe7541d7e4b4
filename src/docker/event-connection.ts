import { request, type IncomingMessage } from 'node:http';
import { AppError } from '../errors.js';

export interface EventConnection {
  /** Cuts the connection; onClose follows. */
  destroy(reason: AppError): void;
}

export interface EventConnectionOptions {
  socketPath: string;
  /** Events from this moment on, nanoseconds since 1970. */
  sinceNano: bigint;
  /** How long the engine may take to answer with headers. */
  headerTimeoutMs: number;
  /** The engine has accepted: what happens from now on arrives. */
  onOpen: () => void;
  onData: (chunk: Buffer) => void;
  /** Called exactly once, whatever ends the connection. A stream has no good end. */
  onClose: (reason: AppError) => void;
}

/** One GET /events. No version in the path: each engine then answers in its own newest form. */
export function openEventConnection(options: EventConnectionOptions): EventConnection {
  let closed = false;
  const close = (reason: AppError) => {
    if (closed) return;
    closed = true;
    clearTimeout(headerTimer);
    outgoing.destroy();
    options.onClose(reason);
  };
  const fail = (cause: unknown) => {
    close(AppError.from(cause, 'unavailable', `the Docker engine at ${options.socketPath} cut the events`));
  };
  const outgoing = request({
    socketPath: options.socketPath,
    path: `/events?since=${formatSince(options.sinceNano)}`,
    headers: { host: 'docker', accept: 'application/json' },
    agent: false,
  });
  const headerTimer = setTimeout(() => {
    close(
      new AppError(
        'deadline_exceeded',
        `the Docker engine at ${options.socketPath} did not answer /events in ${String(options.headerTimeoutMs)} ms`,
      ),
    );
  }, options.headerTimeoutMs);
  outgoing.on('error', fail);
  outgoing.on('response', (response) => {
    response.on('error', fail);
    if (response.statusCode !== 200) {
      void refused(response, options.socketPath).then(close); // the header timer limits this too
      return;
    }
    clearTimeout(headerTimer);
    response.on('close', () => {
      fail('the stream has ended');
    });
    if (closed) return;
    options.onOpen();
    response.on('data', (chunk: Buffer) => {
      if (!closed) options.onData(chunk);
    });
  });
  outgoing.end();
  return { destroy: close };
}

/** `since` takes seconds with nine decimals; a bare number of nanoseconds would be read as seconds. */
function formatSince(nanos: bigint): string {
  const text = nanos.toString().padStart(10, '0');
  return `${text.slice(0, -9)}.${text.slice(-9)}`;
}

async function refused(response: IncomingMessage, socketPath: string): Promise<AppError> {
  const body = await readSome(response, 4096).catch(() => '');
  return new AppError(
    'unavailable',
    `the Docker engine at ${socketPath} refused /events with status ${String(response.statusCode)}: ${body.trim()}`,
  );
}

async function readSome(response: IncomingMessage, maxChars: number): Promise<string> {
  let body = '';
  for await (const chunk of response) {
    body += String(chunk);
    if (body.length >= maxChars) break;
  }
  return body.slice(0, maxChars);
}

/** True when the engine answers GET /_ping on a connection of its own within the timeout. Never throws. */
export async function pingEngine(socketPath: string, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const outgoing = request(
      { socketPath, path: '/_ping', headers: { host: 'docker' }, agent: false },
      (response) => {
        response.resume();
        settle(response.statusCode === 200);
      },
    );
    const timer = setTimeout(() => {
      settle(false);
    }, timeoutMs);
    const settle = (answer: boolean) => {
      clearTimeout(timer);
      outgoing.destroy();
      resolve(answer);
    };
    outgoing.on('error', () => {
      settle(false);
    });
    outgoing.end();
  });
}
