/**
 * Named places where a test lets this process die, wait or fail: what a crash there leaves behind must be taken up
 * by the next start. Without an environment variable that config.json does not declare, and that so nobody can set
 * on an installed plugin, a point is a call that does nothing.
 *
 * The variable names a file. Each point that is reached looks into it: `{"action": "kill", "point": NAME}` fires
 * there, at the `hit`-th time (1), and never again, as the file is removed first; `record` notes the point in a file
 * beside it. A step of the plan without its two points here does not compile.
 */
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { AppError } from '../errors.js';
import { sleep } from './sleep.js';

const steps = [
  'createBacking',
  'serveTarget',
  'renewTarget',
  'markReady',
  'claimAttachment',
  'attachDevice',
  'forfeitDevice',
  'makeFileSystem',
  'mountFileSystem',
  'unmountFileSystem',
  'detachDevice',
  'closeTarget',
  'releaseAttachment',
  'stopTarget',
  'deleteBacking',
  'deleteRecords',
] as const;

export const failPoints = [
  ...steps.map((step) => `before ${step}` as const),
  ...steps.map((step) => `after ${step}` as const),
  'before record write',
  'after record write',
  'after record cache',
  'before count add',
  'after count add',
  'before count drop',
  'after count drop',
  'before file rename',
  'after file rename',
  'before state write',
  'before state flush',
  'after state flush',
  'before container run',
  'after container create',
  'after container run',
  'before container reload',
  'after container reload',
  'before container remove',
  'after container remove',
  'before backing size',
  'before mount',
  'before data directory',
  'before mountpoint remove',
  'before etcd run',
  'after etcd run',
  'before member join',
  'after member join',
  'before member aside',
  'after member aside',
  'before member add',
  'after member add',
  'before member promote',
  'after member promote',
  'before member remove',
  'after member remove',
  'before transition',
  'after transition engine',
  'after transition files',
  'before ending ack',
  'after ending engine',
  'after ending files',
  'before recovery load',
  'before answer',
  'after answer',
] as const;
export type FailPoint = (typeof failPoints)[number];

type Hook = (point: FailPoint) => Promise<void> | undefined;
let hook: Hook | null = null;

/** Nothing to wait for unless it is armed. */
export function failPoint(point: FailPoint): Promise<void> | undefined {
  return hook?.(point);
}

/** For tests in this process: what happens at each point. */
export function hookFailPoints(armed: Hook | null): void {
  hook = armed;
}

/** From here on each point looks into the file; nothing happens without its name. */
export function armFailPoints(file: string | undefined): void {
  if (file === undefined || file === '') return;
  let last = '';
  const reached = new Map<FailPoint, number>();
  hook = (point) => {
    const text = readOrder(file);
    // A new order counts anew.
    if (text !== last) reached.clear();
    last = text;
    if (text === '') return undefined;
    const hit = (reached.get(point) ?? 0) + 1;
    reached.set(point, hit);
    return obey(file, JSON.parse(text) as Order, { point, hit });
  };
}

interface Order {
  readonly action: 'record' | 'kill' | 'delay' | 'error';
  readonly point?: FailPoint;
  readonly hit?: number;
  readonly delayMs?: number;
}

function readOrder(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function obey(
  file: string,
  order: Order,
  { point, hit }: { point: FailPoint; hit: number },
): Promise<void> | undefined {
  if (order.action === 'record') {
    appendFileSync(`${file}.log`, `${point}\n`);
    return undefined;
  }
  if (order.point !== point || (order.hit ?? 1) !== hit) return undefined;
  rmSync(file, { force: true });
  if (order.action === 'kill') die(file);
  if (order.action === 'error') throw new AppError('internal', `failed on purpose ${point}`);
  return sleep(order.delayMs ?? 0);
}

/** The kernel spares the first process of a PID namespace from its own SIGKILL: the test sends it, once told. */
function die(file: string): never {
  writeFileSync(`${file}.fired`, String(process.pid));
  process.kill(process.pid, 'SIGKILL');
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
