/**
 * A Docker engine to script: real HTTP on a real unix socket, and nothing it was not told about. A call it does
 * not know is answered 501 and makes close() throw, so a test cannot pass by accident.
 *
 * It answers /_ping, /info, /version and /events. Events go out by emit(), with the newest 256 kept for `since`,
 * as dockerd does; raw() sends bytes as they are, for chunks that end anywhere.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface FakeEvent {
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope?: string;
  /** Decimal: JSON numbers are too short for it, so it is put into the text. */
  timeNano: string;
}

export type Handler = (request: IncomingMessage, response: ServerResponse, url: URL) => void;

export interface FakeEngine {
  readonly socketPath: string;
  /** Queries of all /events calls, oldest first. */
  readonly eventCalls: readonly { since: string | null }[];
  /** Calls it did not know. */
  readonly unknown: readonly string[];
  /** ok, hang (accepts and never answers), error (500). */
  ping: 'ok' | 'hang' | 'error';
  /** ok, hang (no headers), refuse (500). */
  events: 'ok' | 'hang' | 'refuse';
  info: Record<string, unknown>;
  version: Record<string, unknown>;
  /** Event streams open now. */
  readonly streams: number;
  handle(method: string, path: string, handler: Handler): void;
  emit(...events: FakeEvent[]): void;
  /** Sends bytes on all streams; false if a socket is full. Nothing is remembered for `since`. */
  raw(bytes: string | Buffer): boolean;
  /** Waits until all that was sent has been read from the sockets. */
  drained(): Promise<void>;
  /** Forgets the events kept for `since`, as a restart does. */
  forget(): void;
  /** Ends all streams as a dying engine does: in the middle, without the end of the body. */
  cut(): void;
  /** Stops listening and cuts everything; listen() brings it back. */
  stop(): Promise<void>;
  listen(): Promise<void>;
  /** @throws Error if a call came that it does not know. */
  close(): Promise<void>;
}

export function eventLine(event: FakeEvent): string {
  const { timeNano, ...rest } = event;
  return `${JSON.stringify({ scope: 'local', ...rest }).slice(0, -1)},"time":${timeNano.slice(0, -9)},"timeNano":${timeNano}}\n`;
}

/** A container event of now; each has a time of its own. */
export function containerEvent(
  action: string,
  id = 'c1',
  attributes: Record<string, string> = {},
): FakeEvent {
  return {
    Type: 'container',
    Action: action,
    Actor: { ID: id, Attributes: attributes },
    timeNano: uniqueNano(),
  };
}

let lastNano = 0n;
export function uniqueNano(): string {
  const now = BigInt(Date.now()) * 1_000_000n;
  lastNano = now > lastNano ? now : lastNano + 1n;
  return String(lastNano);
}

const remembered = 256;

export async function startFakeEngine(): Promise<FakeEngine> {
  const directory = await mkdtemp(join(tmpdir(), 'fake-engine-'));
  const engine = new ScriptedEngine(directory);
  await engine.listen();
  return engine;
}

class ScriptedEngine implements FakeEngine {
  readonly socketPath: string;
  readonly eventCalls: { since: string | null }[] = [];
  readonly unknown: string[] = [];
  ping: FakeEngine['ping'] = 'ok';
  events: FakeEngine['events'] = 'ok';
  info: Record<string, unknown> = { ID: 'fake', Name: 'fake', ServerVersion: '20.10.24' };
  version: Record<string, unknown> = { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12' };
  readonly #directory: string;
  readonly #handlers = new Map<string, Handler>();
  readonly #streams = new Set<ServerResponse>();
  readonly #sockets = new Set<Socket>();
  #ring: { nano: bigint; line: string }[] = [];
  #server: ReturnType<typeof createServer> | null = null;

  constructor(directory: string) {
    this.#directory = directory;
    this.socketPath = join(directory, 'docker.sock');
    this.handle('GET', '/_ping', (_request, response) => {
      if (this.ping === 'hang') return;
      response.writeHead(this.ping === 'ok' ? 200 : 500).end('OK');
    });
    this.handle('GET', '/info', (_request, response) => response.end(JSON.stringify(this.info)));
    this.handle('GET', '/version', (_request, response) => response.end(JSON.stringify(this.version)));
    this.handle('GET', '/events', (_request, response, url) => {
      this.#follow(response, url);
    });
  }

  get streams(): number {
    return this.#streams.size;
  }

  handle(method: string, path: string, handler: Handler): void {
    this.#handlers.set(`${method} ${path}`, handler);
  }

  emit(...events: FakeEvent[]): void {
    for (const event of events) {
      const line = eventLine(event);
      this.#ring.push({ nano: BigInt(event.timeNano), line });
      this.#ring = this.#ring.slice(-remembered);
      this.raw(line);
    }
  }

  raw(bytes: string | Buffer): boolean {
    return [...this.#streams].map((stream) => stream.write(bytes)).every((room) => room);
  }

  async drained(): Promise<void> {
    await Promise.all(
      [...this.#streams].filter((stream) => stream.writableNeedDrain).map((stream) => once(stream, 'drain')),
    );
  }

  forget(): void {
    this.#ring = [];
  }

  cut(): void {
    for (const stream of this.#streams) stream.socket?.destroy();
    this.#streams.clear();
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    this.#streams.clear();
    for (const socket of this.#sockets) socket.destroy();
    if (server === null) return;
    await new Promise((resolve) => server.close(resolve));
  }

  async listen(): Promise<void> {
    const server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://docker');
      const call = `${request.method ?? ''} ${url.pathname.replace(/^\/v\d+\.\d+(?=\/)/, '')}`;
      const handler = this.#handlers.get(call);
      if (handler) {
        handler(request, response, url);
        return;
      }
      this.unknown.push(call);
      response.writeHead(501).end(JSON.stringify({ message: `the fake engine was not told about ${call}` }));
    });
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server = server;
    server.listen(this.socketPath);
    await once(server, 'listening');
  }

  async close(): Promise<void> {
    await this.stop();
    await rm(this.#directory, { recursive: true, force: true });
    if (this.unknown.length > 0)
      throw new Error(`calls the fake engine was not told about: ${this.unknown.join(', ')}`);
  }

  #follow(response: ServerResponse, url: URL): void {
    const since = url.searchParams.get('since');
    this.eventCalls.push({ since });
    if (this.events === 'hang') return;
    if (this.events === 'refuse') {
      response.writeHead(500).end('{"message":"no events today"}');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (since !== null) {
      for (const { nano, line } of this.#ring) if (nano >= toNano(since)) response.write(line);
    }
    this.#streams.add(response);
    response.on('close', () => this.#streams.delete(response));
  }
}

function toNano(since: string): bigint {
  const [seconds = '0', fraction = ''] = since.split('.');
  return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
}
