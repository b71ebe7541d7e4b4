/** Consul's agent API, as far as services go: each call with a deadline, its failures in our words. */
import http from 'node:http';
import https from 'node:https';
import { urlToHttpOptions } from 'node:url';
import { z } from 'zod';
import { type Ctx, withDeadline } from '../../../context.js';
import { AppError } from '../../../errors.js';
import type { AgentService, Registration } from './registration.js';

export interface AgentOptions {
  /** `http://host:8500`, `https://host:8501` or `unix:///path`. */
  readonly address: string;
  readonly token?: string;
  /** PEM. */
  readonly tls?: { readonly ca?: Buffer; readonly certificate?: Buffer; readonly key?: Buffer };
  /** Calls side by side. */
  readonly atOnce: number;
}

/** All throw AppError: `unavailable` when the agent does not answer, `deadline_exceeded` when it takes too long. */
export interface ConsulAgent {
  /** By id. */
  services(ctx: Ctx): Promise<ReadonlyMap<string, AgentService>>;
  register(ctx: Ctx, registration: Registration): Promise<Outcome>;
  /** Of a service that is not there too: done. */
  deregister(ctx: Ctx, id: string): Promise<Outcome>;
  close(): void;
}

/** refused: the same again gets the same answer. later: the agent answers, but cannot now. */
export type Outcome =
  { readonly kind: 'done' } | { readonly kind: 'refused' | 'later'; readonly problem: string };

const CALL_MS = 5_000;
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;

const listed = z.record(
  z.string(),
  z.looseObject({
    Service: z.string(),
    Tags: z.array(z.string()).nullish(),
    Meta: z.record(z.string(), z.string()).nullish(),
    Port: z.number().nullish(),
    Address: z.string().nullish(),
    EnableTagOverride: z.boolean().nullish(),
  }),
);

/** @throws AppError `invalid_argument` for an address that is none. */
export function createConsulAgent(options: AgentOptions): ConsulAgent {
  return new HttpConsulAgent(options);
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

interface Call {
  readonly method: 'GET' | 'PUT';
  readonly path: string;
  readonly body?: string;
}

class HttpConsulAgent implements ConsulAgent {
  readonly #address: string;
  readonly #request: typeof http.request;
  readonly #target: https.RequestOptions;
  readonly #connections: http.Agent;

  constructor({ address, token, tls, atOnce }: AgentOptions) {
    const url = parseAddress(address);
    const isTls = url.protocol === 'https:';
    this.#address = address;
    this.#request = isTls ? https.request : http.request;
    this.#connections = isTls
      ? securePool(atOnce, tls)
      : new http.Agent({ keepAlive: true, maxSockets: atOnce });
    this.#target = {
      ...(url.protocol === 'unix:' ? { socketPath: decodeURIComponent(url.pathname) } : hostOf(url)),
      agent: this.#connections,
      headers: token === undefined ? {} : { 'X-Consul-Token': token },
    };
  }

  async services(ctx: Ctx): Promise<ReadonlyMap<string, AgentService>> {
    const { status, text } = await this.#call(ctx, { method: 'GET', path: '/v1/agent/services' });
    const parsed = status === 200 ? listed.safeParse(parseJson(text)) : undefined;
    if (!parsed?.success) {
      const said = `${String(status)}, ${shorten(text)}`;
      throw new AppError('unavailable', `Consul at ${this.#address} does not list its services: ${said}`);
    }
    return new Map(
      Object.entries(parsed.data).map(([id, service]) => [
        id,
        {
          name: service.Service,
          tags: service.Tags ?? [],
          meta: service.Meta ?? {},
          port: service.Port ?? 0,
          address: service.Address ?? '',
          enableTagOverride: service.EnableTagOverride ?? false,
        },
      ]),
    );
  }

  async register(ctx: Ctx, { body }: Registration): Promise<Outcome> {
    // Without it, a check that the former registration had would stay.
    const path = '/v1/agent/service/register?replace-existing-checks=true';
    return outcomeOf(await this.#call(ctx, { method: 'PUT', path, body }));
  }

  async deregister(ctx: Ctx, id: string): Promise<Outcome> {
    const path = `/v1/agent/service/deregister/${encodeURIComponent(id)}`;
    const answer = await this.#call(ctx, { method: 'PUT', path });
    return /unknown service/i.test(answer.text) ? { kind: 'done' } : outcomeOf(answer);
  }

  close(): void {
    this.#connections.destroy();
  }

  async #call(ctx: Ctx, call: Call): Promise<Answer> {
    const { signal } = withDeadline(ctx, CALL_MS);
    try {
      return await this.#exchange(call, signal);
    } catch (cause) {
      if (ctx.signal.aborted) throw new AppError('canceled', 'the call to Consul was given up', { cause });
      const place = `Consul at ${this.#address}`;
      if (signal.aborted)
        throw new AppError('deadline_exceeded', `${place} does not answer in time`, { cause });
      throw AppError.from(cause, 'unavailable', `${place} does not answer`);
    }
  }

  async #exchange({ method, path, body }: Call, signal: AbortSignal): Promise<Answer> {
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const request = this.#request({ ...this.#target, method, path, signal }, resolve);
      // Stays for what goes wrong after the answer has begun: the reader below is told of that.
      request.on('error', reject);
      request.end(body);
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MAX_ANSWER_BYTES) throw new AppError('unavailable', 'the answer of Consul has no end');
    }
    return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') };
  }
}

function parseAddress(address: string): URL {
  const url = URL.parse(address);
  const isOne = url?.protocol === 'unix:' ? url.pathname.length > 1 : /^https?:$/.test(url?.protocol ?? '');
  if (!url || !isOne) {
    const forms = 'http://HOST:PORT, https://HOST:PORT or unix:///PATH is expected';
    throw new AppError('invalid_argument', `"${address}" is no address of a Consul agent: ${forms}`);
  }
  return url;
}

function securePool(atOnce: number, tls: AgentOptions['tls'] = {}): https.Agent {
  return new https.Agent({
    keepAlive: true,
    maxSockets: atOnce,
    ...(tls.ca ? { ca: tls.ca } : {}),
    ...(tls.certificate ? { cert: tls.certificate } : {}),
    ...(tls.key ? { key: tls.key } : {}),
  });
}

function hostOf(url: URL): https.RequestOptions {
  const { protocol, hostname, port } = urlToHttpOptions(url);
  return {
    ...(protocol == null ? {} : { protocol }),
    ...(hostname == null ? {} : { hostname }),
    ...(port == null ? {} : { port }),
  };
}

function outcomeOf({ status, text }: Answer): Outcome {
  if (status === 200) return { kind: 'done' };
  const problem = `${String(status)}, ${shorten(text)}`;
  const isBusy = status >= 500 || status === 408 || status === 429;
  // That is how an agent refuses a check which is a program, with a 500.
  return { kind: isBusy && !/scripts are disabled/i.test(text) ? 'later' : 'refused', problem };
}

function shorten(text: string): string {
  return text.trim().slice(0, 300);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
