/** Questions to the Docker engine, for what the plugin itself cannot tell: that it is not there. */
export interface Engine {
  /** How the docker command reaches it, e.g. `unix:///var/run/docker.sock`. */
  readonly endpoint: string;
  /** A path of this host; null for an engine that is reached otherwise. */
  readonly socketPath: string | null;
  /** Rejects with what node:http says, or EngineRefusal. */
  ask(path: string): Promise<unknown>;
}

/** The engine answered, but not with what was asked for. */
export class EngineRefusal extends Error {
  readonly status: number;

  constructor(path: string, status: number) {
    super(`it answers ${path} with status ${String(status)}`);
    this.name = 'EngineRefusal';
    this.status = status;
  }
}

const TIMEOUT_MS = 5000;
const UNIX = 'unix://';

export function createEngine(endpoint: string, timeoutMs = TIMEOUT_MS): Engine {
  const socketPath = endpoint.startsWith(UNIX) ? endpoint.slice(UNIX.length) : null;
  return {
    endpoint,
    socketPath,
    ask: async (path) => {
      if (socketPath === null) throw new EngineRefusal(path, 0);
      const { status, body } = await askSocket(socketPath, { method: 'GET', path }, timeoutMs);
      if (status !== 200) throw new EngineRefusal(path, status);
      return JSON.parse(body) as unknown;
    },
  };
}

export interface SocketAnswer {
  readonly status: number;
  readonly body: string;
}

export interface SocketRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  /** As JSON. */
  readonly body?: string;
}

/** Once over a unix socket. Rejects with the system's error, code ETIMEDOUT when there was no answer in time. */
export async function askSocket(
  socketPath: string,
  { method, path, body: sent }: SocketRequest,
  timeoutMs: number,
): Promise<SocketAnswer> {
  // The largest of what is loaded, and help needs none of it.
  const { request } = await import('node:http');
  const type = sent === undefined ? {} : { 'content-type': 'application/json' };
  const headers = { host: 'localhost', ...type };
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, agent: false, headers }, (answer) => {
      let body = '';
      answer.setEncoding('utf8').on('data', (part: string) => (body += part));
      answer.on('error', reject);
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, body });
      });
    });
    // Of the whole exchange: a socket that trickles is no better than one that is silent.
    const timer = setTimeout(() => {
      call.destroy(
        Object.assign(new Error(`no answer within ${String(timeoutMs / 1000)} s`), { code: 'ETIMEDOUT' }),
      );
    }, timeoutMs);
    call.on('error', reject);
    call.on('close', () => {
      clearTimeout(timer);
    });
    call.end(sent);
  });
}

/** A managed plugin as the engine lists it, as far as it is of use here. */
export interface InstalledPlugin {
  readonly Name: string;
  readonly Enabled: boolean;
  readonly Settings?: { readonly Env?: readonly string[] | null };
  readonly Config?: { readonly Interface?: { readonly Socket?: string } };
}

/** Ours, under whatever name it was installed; null when it is not. */
export async function findPlugin(engine: Engine): Promise<InstalledPlugin | null> {
  const plugins = (await engine.ask('/plugins')) as readonly InstalledPlugin[] | null;
  const ours = (plugins ?? []).filter(({ Config }) => Config?.Interface?.Socket === 'openebs.sock');
  return ours.find(({ Enabled }) => Enabled) ?? ours[0] ?? null;
}

/** Settings of the installed plugin. */
export function settingsOf(plugin: InstalledPlugin | null): ReadonlyMap<string, string> {
  const env = plugin?.Settings?.Env ?? [];
  return new Map(
    env.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)] as const),
  );
}
