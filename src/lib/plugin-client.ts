/**
 * Calls what listens at a unix socket in the way of Docker's plugins: POST, JSON in, JSON out. Nothing that it does costs
 * more than an error: an answer has a bound in bytes, and the caller's signal ends the call wherever it stands.
 */
import { type IncomingMessage, request } from 'node:http';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { quote } from './quote.js';

export interface PluginClient {
  /**
   * What it answers to this body, once it has said that it implements what is asked of it.
   * @throws AppError `unavailable` that says `it` and `its socket`, as the caller has a name for it; whatever `ctx.signal` aborts with. There is no other deadline.
   */
  call(ctx: Ctx, path: string, body: object): Promise<unknown>;
}

export interface PluginClientOptions {
  readonly socketPath: string;
  /** What `POST /Plugin.Activate` has to say: `openebs.discovery`. */
  readonly implementing: string;
}

const MAX_ANSWER_BYTES = 64 * 1024;

export function createPluginClient({ socketPath, implementing }: PluginClientOptions): PluginClient {
  const post = async (ctx: Ctx, path: string, body: object): Promise<unknown> => {
    try {
      return readAnswer(
        path,
        await exchange({ socketPath, path, body: JSON.stringify(body), signal: ctx.signal }),
      );
    } catch (cause) {
      ctx.signal.throwIfAborted();
      throw new AppError('unavailable', troubleOf(cause), { cause });
    }
  };
  return {
    async call(ctx, path, body) {
      const activated = await post(ctx, '/Plugin.Activate', {});
      const { Implements: all } = (activated ?? {}) as { Implements?: unknown };
      if (Array.isArray(all) && all.includes(implementing)) return post(ctx, path, body);
      const said = quote(JSON.stringify(activated));
      throw new AppError(
        'unavailable',
        `what listens there is no ${implementing}: asked what it implements, it says ${said}`,
      );
    },
  };
}

interface Exchange {
  readonly socketPath: string;
  readonly path: string;
  readonly body: string;
  readonly signal: AbortSignal;
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function exchange({ socketPath, path, body, signal }: Exchange): Promise<Answer> {
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    host: 'plugin',
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const call = request({ socketPath, path, method: 'POST', agent: false, signal, headers }, resolve);
    // Stays for what goes wrong after the answer has begun: the reader below is told of that.
    call.on('error', reject);
    call.end(body);
  });
  const chunks: Buffer[] = [];
  let size = 0;
  // Leaving the loop destroys the connection.
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES)
      throw new AppError(
        'unavailable',
        `it answers ${path} with more than ${String(MAX_ANSWER_BYTES)} bytes`,
      );
    chunks.push(chunk);
  }
  return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') };
}

function readAnswer(path: string, { status, text }: Answer): unknown {
  const answer = parse(text);
  const { Err: err } = (answer ?? {}) as { Err?: unknown };
  if (typeof err === 'string' && err !== '')
    throw new AppError('unavailable', `it refuses ${path}: ${quote(err, 300)}`);
  if (status !== 200)
    throw new AppError(
      'unavailable',
      `it answers ${path} with status ${String(status)}: ${quote(text, 300)}`,
    );
  if (answer === undefined)
    throw new AppError('unavailable', `it answers ${path} with what is no JSON: ${quote(text)}`);
  return answer;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function troubleOf(cause: unknown): string {
  if (cause instanceof AppError) return cause.message;
  const { code = '', message } = cause as NodeJS.ErrnoException;
  if (code === 'ENOENT')
    return 'its socket does not exist: start the plugin that listens there, or correct the path';
  if (code === 'ECONNREFUSED') return 'nobody listens at its socket: start the plugin';
  return `it does not answer as a plugin does (${message})`;
}
