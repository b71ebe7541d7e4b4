/** The plugin's admin socket. Whatever goes wrong there is told as a Failure. */
import type { ErrorMessage } from '../admin/messages.js';
import { askSocket, type SocketAnswer, type SocketRequest } from './engine-client.js';
import { exitCodes, Failure, LostAnswer } from './failure.js';

/** Each throws a Failure; `post` and `remove` a LostAnswer when what was asked for may be done. */
export interface AdminClient {
  get<Message>(path: string, parameters?: Parameters, asked?: Asked): Promise<Message>;
  post<Message>(path: string, body: object, asked?: Asked): Promise<Message>;
  /** DELETE */
  remove(path: string, parameters?: Parameters): Promise<void>;
}

export type Parameters = Readonly<Record<string, string | undefined>>;

export interface Asked {
  /** Of the whole exchange. */
  readonly timeoutMs?: number;
  /** What the caller reads of the answer: it is refused without. */
  readonly shape?: Shape;
  /** It is asked again soon: nobody explains why nobody answers. */
  readonly again?: boolean;
}

/** The plugin may be of another version: so little of its answers is relied on, and that is looked at. */
export type Shape = Readonly<Record<string, 'string' | 'number' | 'boolean' | 'object' | 'array'>>;

/** Why nobody answers at the socket, from the system's error code. */
export type Explain = (code: string, detail: string) => Promise<Failure>;

/** Longer than the plugin takes for its slowest answer. */
const TIMEOUT_MS = 30_000;
/** The system's error codes of a request that nobody has taken. */
const unsent = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'EACCES', 'EPERM']);

export function createAdminClient(socketPath: string, explain: Explain, timeoutMs = TIMEOUT_MS): AdminClient {
  async function exchange(request: SocketRequest, asked: Asked): Promise<SocketAnswer> {
    try {
      return await askSocket(socketPath, request, asked.timeoutMs ?? timeoutMs);
    } catch (reason) {
      const { code = '', message } = reason as NodeJS.ErrnoException;
      if (asked.again === true)
        throw new Failure(exitCodes.unreachable, `nobody answers at ${socketPath}`, { cause: reason });
      const failure = await explain(code, message);
      throw request.method === 'GET' || unsent.has(code) ? failure : new LostAnswer(failure);
    }
  }

  async function ask(request: SocketRequest, asked: Asked = {}): Promise<unknown> {
    const { status, body: text } = await exchange(request, asked);
    // A change may have nothing to tell.
    const body = text === '' && request.method !== 'GET' && isSuccess(status) ? {} : parse(text);
    if (body === undefined) throw foreign(socketPath);
    if (!isSuccess(status)) throw refusal(request, socketPath, body);
    const lacking = lackOf(body, asked.shape ?? {});
    if (lacking !== undefined) throw misshapen(request, lacking);
    return body;
  }

  return {
    async get<Message>(path: string, parameters: Parameters = {}, asked?: Asked) {
      return (await ask({ method: 'GET', path: path + queryOf(parameters) }, asked)) as Message;
    },
    async post<Message>(path: string, body: object, asked?: Asked) {
      return (await ask({ method: 'POST', path, body: JSON.stringify(body) }, asked)) as Message;
    },
    async remove(path, parameters = {}) {
      await ask({ method: 'DELETE', path: path + queryOf(parameters) });
    },
  };
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

function queryOf(parameters: Parameters): string {
  const given = Object.entries(parameters).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Which field is not there, or not what it has to be. */
function lackOf(body: unknown, shape: Shape): string | undefined {
  const found = (body ?? {}) as Readonly<Record<string, unknown>>;
  return Object.entries(shape).find(([name, type]) => kindOf(found[name]) !== type)?.[0];
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return value === null ? 'null' : typeof value;
}

function refusal({ method, path }: SocketRequest, socketPath: string, body: unknown): Failure {
  const { error } = (body ?? {}) as Partial<ErrorMessage>;
  if (typeof error?.message !== 'string') return foreign(socketPath);
  if (error.code === 'not_found' && error.message.startsWith(`there is no ${method} `)) {
    const text = `the plugin of this host does not know ${path}: it is older than this program; upgrade the plugin`;
    return new Failure(exitCodes.wrong, text);
  }
  return new Failure(error.code === 'invalid_argument' ? exitCodes.usage : exitCodes.wrong, error.message);
}

function foreign(socketPath: string): Failure {
  const text = `what answers at ${socketPath} is not the plugin: give its socket with --socket`;
  return new Failure(exitCodes.unreachable, text);
}

function misshapen({ method, path }: SocketRequest, lacking: string): Failure {
  const text =
    `the plugin's answer to ${method} ${path} has no ${lacking} that is understood: it is of another version than ` +
    'this program (docker openebs version); bring them together';
  return new Failure(exitCodes.wrong, text);
}
