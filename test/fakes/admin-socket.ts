/**
 * A plugin's admin socket to script: it answers what a test says, and nothing else; it goes away and comes back, hangs, and
 * drops connections.
 */
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** What a request is answered with. `drop`: the connection ends without an answer; `hang`: it stays silent. */
export type Scripted = { readonly status?: number; readonly body: unknown } | 'drop' | 'hang';

/** @param body as it was sent, read as JSON; undefined: none */
export type Route = (request: { readonly path: string; readonly body: unknown }) => Scripted;

export interface AdminSocket {
  readonly path: string;
  /** `METHOD /path?query` and body, in order. */
  readonly requests: readonly (readonly [call: string, body?: unknown])[];
  /** By `METHOD /path`; a star at the end stands for anything. */
  routes: Readonly<Record<string, Route>>;
  /** Nobody listens any more: open connections end, and the socket's file is gone. */
  goAway(): Promise<void>;
  comeBack(): Promise<void>;
  close(): Promise<void>;
}

export async function startAdminSocket(path: string): Promise<AdminSocket> {
  const requests: [string, unknown?][] = [];
  let server: Server | undefined;
  let closed = false;

  const socket: AdminSocket = {
    path,
    requests,
    routes: {},
    async goAway() {
      const going = server;
      server = undefined;
      if (going === undefined) return;
      await new Promise<void>((resolve) => {
        going.close(() => {
          resolve();
        });
        going.closeAllConnections();
      });
      await rm(path, { force: true });
    },
    async comeBack() {
      if (closed) return;
      const made = createServer((request, response) => void answer(request, response));
      server = made;
      await new Promise<void>((resolve) => made.listen(path, resolve));
    },
    close: () => {
      closed = true;
      return socket.goAway();
    },
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const body = await bodyOf(request);
    requests.push(body === undefined ? [`${method} ${url}`] : [`${method} ${url}`, body]);
    const call = `${method} ${url.replace(/\?.*/, '')}`;
    const scripted = routeOf(socket.routes, call)?.({ path: url, body }) ?? unknown(call);
    if (scripted === 'drop') request.socket.destroy();
    else if (scripted !== 'hang') response.writeHead(scripted.status ?? 200).end(textFor(scripted.body));
  }

  await socket.comeBack();
  return socket;
}

function routeOf(routes: AdminSocket['routes'], call: string): Route | undefined {
  const found = Object.entries(routes).find(([name]) =>
    name.endsWith('*') ? call.startsWith(name.slice(0, -1)) : name === call,
  );
  return found?.[1];
}

function unknown(call: string): Scripted {
  return refusal('not_found', `there is no ${call}`, 404);
}

/** Text goes out as it is: it need not be JSON. */
function textFor(body: unknown): string {
  return typeof body === 'string' ? body : JSON.stringify(body);
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const part of request.setEncoding('utf8')) text += String(part);
  return text === '' ? undefined : JSON.parse(text);
}

/** An ErrorMessage. */
export function refusal(code: string, message: string, status = 409): Scripted {
  return { status, body: { error: { code, message } } };
}
