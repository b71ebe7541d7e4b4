import net from 'node:net';
import path from 'node:path';
import { z } from 'zod';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';

/** What a role in a data-plane container says of itself (plugin/image/Role.pm). */
const roleStatus = z.looseObject({
  role: z.string(),
  state: z.enum(['starting', 'ready', 'draining', 'error']),
  error: z.string(),
  /** Of the spec it has applied. */
  generation: z.string(),
  /** The image its container was made from; roles of older images do not say it. */
  image: z.string().nullish(),
  /** Target: logged-in initiators. */
  initiators: z.array(z.string()).optional(),
  /** Initiator: the block device, while it is usable. */
  device: z.string().nullish(),
});
export type RoleStatus = z.infer<typeof roleStatus>;

export const NO_ANSWER =
  'is not ready: its container does not answer (unless it is paused, docker restart it)';
const TIMEOUT_MS = 5000;
const MAX_ANSWER_BYTES = 65_536;

/**
 * Asks a role over its control socket. Null when nobody listens: the container does not run, or not yet. So
 * liveness is known without the engine, which does not answer while it starts.
 */
export async function askRole(
  ctx: Ctx,
  socketPath: string,
  command: 'status' | 'reload' | 'abandon',
): Promise<RoleStatus | null> {
  const { promise, resolve, reject } = Promise.withResolvers<string | null>();
  const socket = net.connect(socketPath);
  let answer = '';
  const abort = () => {
    reject(new AppError('canceled', 'the caller gave up'));
  };
  ctx.signal.addEventListener('abort', abort, { once: true });
  socket.setEncoding('utf8');
  socket.setTimeout(TIMEOUT_MS, () => {
    reject(new AppError('deadline_exceeded', `${path.basename(path.dirname(socketPath))} ${NO_ANSWER}`));
  });
  socket.on('connect', () => socket.write(`${command}\n`));
  socket.on('data', (chunk: string) => {
    answer += chunk;
    if (answer.length > MAX_ANSWER_BYTES) reject(new AppError('internal', `endless answer at ${socketPath}`));
  });
  socket.on('end', () => {
    resolve(answer === '' ? null : answer);
  });
  socket.on('error', (cause: NodeJS.ErrnoException) => {
    const gone = ['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(cause.code ?? '');
    if (gone) resolve(null);
    else reject(new AppError('internal', `cannot ask ${socketPath}: ${cause.message}`, { cause }));
  });
  try {
    const line = await promise;
    return line === null ? null : parseStatus(line, socketPath);
  } finally {
    ctx.signal.removeEventListener('abort', abort);
    socket.destroy();
  }
}

function parseStatus(line: string, socketPath: string): RoleStatus {
  try {
    return roleStatus.parse(JSON.parse(line));
  } catch (cause) {
    throw new AppError('internal', `a role answered nonsense at ${socketPath}`, { cause });
  }
}
