/** The plugin's admin socket. Whatever goes wrong there is told as a Failure. */
import type { ErrorMessage } from '../admin/messages.js';
import { askSocket, type SocketAnswer } from './engine-client.js';
import { exitCodes, Failure } from './failure.js';

export interface AdminClient {
  /** @throws Failure */
  get<Message>(path: string, parameters?: Parameters): Promise<Message>;
}

export type Parameters = Readonly<Record<string, string | undefined>>;

/** Why nobody answers at the socket, from the system's error code. */
export type Explain = (code: string, detail: string) => Promise<Failure>;

/** Longer than the plugin takes for its slowest answer. */
const TIMEOUT_MS = 30_000;

export function createAdminClient(socketPath: string, explain: Explain, timeoutMs = TIMEOUT_MS): AdminClient {
  return {
    // The caller knows the message of a path; the plugin may be of another version, so little of it is relied on.
    async get<Message>(path: string, parameters: Parameters = {}) {
      let answer: SocketAnswer;
      try {
        answer = await askSocket(socketPath, path + queryOf(parameters), timeoutMs);
      } catch (reason) {
        const { code = '', message } = reason as NodeJS.ErrnoException;
        throw await explain(code, message);
      }
      const body = parse(answer.body);
      if (body === undefined) throw foreign(socketPath);
      if (answer.status === 200) return body as Message;
      throw refusal(path, socketPath, body);
    },
  };
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

function refusal(path: string, socketPath: string, body: unknown): Failure {
  const { error } = (body ?? {}) as Partial<ErrorMessage>;
  if (error === undefined) return foreign(socketPath);
  if (error.code === 'not_found' && error.message.startsWith('there is no GET ')) {
    const text = `the plugin of this host does not know ${path}: it is older than this program; upgrade the plugin`;
    return new Failure(exitCodes.wrong, text);
  }
  return new Failure(error.code === 'invalid_argument' ? exitCodes.usage : exitCodes.wrong, error.message);
}

function foreign(socketPath: string): Failure {
  const text = `what answers at ${socketPath} is not the plugin: give its socket with --socket`;
  return new Failure(exitCodes.unreachable, text);
}
