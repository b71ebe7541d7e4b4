/** HTTP/1.1 over a unix socket, as bytes: what is sent is exactly what a case says, well-formed or not. */
import { closeSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** What is wrong with a driver; its message is the verdict's detail. */
export class Complaint extends Error {}

/** A socket's address has room for 107 bytes: a longer path is reached through its open directory. */
export function reachable(socketPath: string): { path: string; release: () => void } {
  if (Buffer.byteLength(socketPath) <= 107) return { path: socketPath, release: () => undefined };
  const directory = openSync(dirname(socketPath), 'r');
  return {
    path: `/proc/self/fd/${String(directory)}/${basename(socketPath)}`,
    release: () => {
      closeSync(directory);
    },
  };
}

export class Connection {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => undefined;
  /** Interim answers (100 Continue) seen so far. */
  interim = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on('end', end).on('close', end).on('error', end);
  }

  static open(path: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path, allowHalfOpen: true });
      const refuse = (reason: Error) => {
        reject(new Complaint(`nobody takes connections at the socket: ${reason.message}`));
      };
      socket.once('error', refuse);
      socket.once('connect', () => {
        socket.off('error', refuse);
        resolve(new Connection(socket));
      });
    });
  }

  /** True when the driver has closed its side. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True when something has come that was not read yet. */
  get unread(): boolean {
    return this.#received.length > 0;
  }

  send(bytes: string | Buffer): this {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
    return this;
  }

  /** The next final answer; null when the driver hung up without one. */
  async next(limitMs: number): Promise<Reply | null> {
    const until = performance.now() + limitMs;
    for (;;) {
      const reply = this.#take();
      if (reply && reply.status >= 200) return reply;
      if (reply) this.interim += 1;
      else if (this.#ended) return null;
      else await this.#more(until - performance.now(), limitMs);
    }
  }

  /** Leaves as a client that was killed does. */
  close(): void {
    this.#socket.destroy();
  }

  #more(leftMs: number, limitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => {
          this.#wake = () => undefined;
          reject(new Complaint(`no answer within ${String(limitMs / 1000)} s`));
        },
        Math.max(0, leftMs),
      );
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Cuts one whole answer off the front of what was received. */
  #take(): Reply | null {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return null;
    const [first = '', ...lines] = this.#received.subarray(0, end).toString('latin1').split('\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1]);
    if (Number.isNaN(status)) throw new Complaint(`the answer does not begin as HTTP does: ${first}`);
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const body = readBody(this.#received.subarray(end + 4), status, { headers, ended: this.#ended });
    if (!body) return null;
    this.#received = this.#received.subarray(end + 4 + body.length);
    return { status, headers, text: body.text };
  }
}

interface Body {
  readonly text: string;
  /** Bytes it took on the wire. */
  readonly length: number;
}

interface Framing {
  readonly headers: Readonly<Record<string, string>>;
  readonly ended: boolean;
}

function readBody(rest: Buffer, status: number, { headers, ended }: Framing): Body | null {
  if (status < 200 || status === 204 || status === 304) return { text: '', length: 0 };
  if (headers['transfer-encoding']?.toLowerCase() === 'chunked') return readChunks(rest);
  const announced = headers['content-length'];
  if (announced === undefined) return ended ? { text: rest.toString('utf8'), length: rest.length } : null;
  const length = Number(announced);
  return rest.length >= length ? { text: rest.subarray(0, length).toString('utf8'), length } : null;
}

function readChunks(rest: Buffer): Body | null {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = rest.indexOf('\r\n', at);
    if (lineEnd < 0) return null;
    const size = parseInt(rest.subarray(at, lineEnd).toString('latin1'), 16);
    const next = lineEnd + 2 + size + 2;
    if (Number.isNaN(size)) throw new Complaint('the answer is chunked, but a chunk has no size');
    if (rest.length < next) return null;
    if (size === 0) return { text: Buffer.concat(parts).toString('utf8'), length: next };
    parts.push(rest.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = next;
  }
}

export interface Shape {
  readonly method?: string;
  /** Instead of those that Docker sends; Content-Length is added unless the body is chunked. */
  readonly headers?: readonly string[];
}

/** The headers of Docker 20.10: an empty Host, and no Content-Type. */
export const dockerHeaders: readonly string[] = [
  'Host: ',
  'User-Agent: Go-http-client/1.1',
  'Accept: application/vnd.docker.plugins.v1.2+json',
];

export function request(path: string, body: string | Buffer, shape: Shape = {}): Buffer {
  const bytes = Buffer.from(body);
  const head = [
    `${shape.method ?? 'POST'} ${path} HTTP/1.1`,
    ...(shape.headers ?? dockerHeaders),
    `Content-Length: ${String(bytes.length)}`,
  ];
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), bytes]);
}
