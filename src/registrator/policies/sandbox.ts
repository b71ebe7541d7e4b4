/**
 * Runs policies of users where they harm nobody: in a thread of their own (sandbox-worker.ts), each in an engine of its
 * own, with limits of time and memory. A thread that does not answer is ended, and the next one has all policies again.
 */
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { AppError, type ErrorCode } from '../../errors.js';
import type { SandboxAnswer, SandboxFailure, SandboxRequest } from './sandbox-worker.js';

export interface SandboxModule {
  /** Names of the functions it exports. */
  readonly kinds: readonly string[];
  /** What else it exports, as JSON can say it. */
  readonly exports: Readonly<Record<string, unknown>>;
}

export interface Sandbox {
  /**
   * Compiles and runs the module; replaces the one of that name. `file` is what its errors call it.
   * @throws AppError `invalid_argument` with what is wrong with it.
   */
  load(name: string, source: string, file?: string): Promise<SandboxModule>;
  /**
   * What the module's function returns for an object, given as JSON of `[object, config]`.
   * @throws AppError `invalid_argument` with what it threw, `deadline_exceeded` when it took too long, `unavailable` when
   * the thread has come to an end over it, or is none to be had: another try may succeed.
   */
  run(name: string, kind: string, input: string): Promise<unknown>;
  unload(name: string): Promise<void>;
  close(): Promise<void>;
}

export interface SandboxLimits {
  readonly loadMs: number;
  readonly runMs: number;
  /** Beyond a call's own limit: what does not answer then is stuck where the limit does not reach. */
  readonly graceMs: number;
}

const LIMITS: SandboxLimits = { loadMs: 1_000, runMs: 100, graceMs: 3_000 };
/** No policy's fault: on a host that boots, say, a thread is slow to start. */
const START_MS = 60_000;

export function createSandbox(limits: Partial<SandboxLimits> = {}): Sandbox {
  return new WorkerSandbox({ ...LIMITS, ...limits });
}

/** isOver: its thread has come to an end. */
type Answer = SandboxAnswer | (SandboxFailure & { readonly isOver: boolean });

interface Pending {
  readonly settle: (answer: Answer) => void;
  readonly timer: NodeJS.Timeout;
}

class WorkerSandbox implements Sandbox {
  readonly #limits: SandboxLimits;
  readonly #sources = new Map<string, { readonly source: string; readonly file: string }>();
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | null = null;
  /** One call at a time: a limit is one of time, and must not run while another policy has the thread. */
  #turn: Promise<unknown> = Promise.resolve();
  #next = 0;
  #closed = false;

  constructor(limits: SandboxLimits) {
    this.#limits = limits;
  }

  async load(name: string, source: string, file = name): Promise<SandboxModule> {
    this.#sources.delete(name);
    const text = await this.#ask({ load: name, source, file, limitMs: this.#limits.loadMs });
    this.#sources.set(name, { source, file });
    return JSON.parse(text) as SandboxModule;
  }

  async run(name: string, kind: string, input: string): Promise<unknown> {
    const text = await this.#ask({ run: name, kind, input, limitMs: this.#limits.runMs });
    const [result] = JSON.parse(text) as [unknown];
    return result;
  }

  async unload(name: string): Promise<void> {
    this.#sources.delete(name);
    if (this.#worker) await this.#ask({ unload: name });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#end('the sandbox is closing');
  }

  async #ask(request: SandboxRequest): Promise<string> {
    const turn = this.#turn.then(async () => {
      if (this.#closed) return { error: 'the sandbox is closed', isOver: true };
      await this.#ready();
      const answer = await this.#send(request);
      if ('isSpent' in answer && 'run' in request) await this.#loadAgain(request.run);
      return answer;
    });
    this.#turn = turn.catch(() => undefined);
    const answer = await turn;
    if ('ok' in answer) return answer.ok;
    throw new AppError(codeOf(answer), answer.error);
  }

  async #loadAgain(name: string): Promise<void> {
    const module = this.#sources.get(name);
    if (module) await this.#send({ load: name, ...module, limitMs: this.#limits.loadMs });
  }

  /** A thread that has all policies. */
  async #ready(): Promise<void> {
    if (this.#worker) return;
    this.#worker = this.#start();
    const started = await this.#send({ start: true, limitMs: START_MS });
    if ('error' in started) throw new AppError('unavailable', `no policy can run: ${started.error}`);
    for (const [name, module] of this.#sources) {
      await this.#send({ load: name, ...module, limitMs: this.#limits.loadMs });
    }
  }

  #start(): Worker {
    const worker = new Worker(workerFile(), {
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: 64, stackSizeMb: 8 },
      stdout: true,
      stderr: true,
    });
    worker.unref();
    worker.on('message', ({ id, answer }: { id: number; answer: SandboxAnswer }) => {
      this.#settle(id, answer);
    });
    const ended = (reason: string) => {
      if (this.#worker === worker) void this.#end(reason);
    };
    worker.on('error', (error) => {
      ended(`it broke its engine: ${AppError.from(error).message}`);
    });
    worker.on('exit', () => {
      ended('it ended its thread');
    });
    return worker;
  }

  #send(request: SandboxRequest): Promise<Answer> {
    return new Promise((resolve) => {
      const id = (this.#next += 1);
      const limitMs = 'limitMs' in request ? request.limitMs : 0;
      const timer = setTimeout(() => {
        void this.#end('it does not come to an end, and was stopped');
      }, limitMs + this.#limits.graceMs);
      this.#pending.set(id, { settle: resolve, timer });
      this.#worker?.postMessage({ id, request });
    });
  }

  #settle(id: number, answer: Answer): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    clearTimeout(pending.timer);
    this.#pending.delete(id);
    pending.settle(answer);
  }

  async #end(reason: string): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    for (const id of [...this.#pending.keys()]) this.#settle(id, { error: reason, isOver: true });
    await worker?.terminate();
  }
}

function codeOf(failure: SandboxFailure & { readonly isOver?: boolean }): ErrorCode {
  if (failure.isOver === true) return 'unavailable';
  return failure.isSlow === true ? 'deadline_exceeded' : 'invalid_argument';
}

/** Beside this file; not compiled when this one is not, as in tests. */
function workerFile(): URL {
  const compiled = new URL('./sandbox-worker.js', import.meta.url);
  try {
    readFileSync(compiled);
    return compiled;
  } catch {
    return new URL('./sandbox-worker.ts', import.meta.url);
  }
}
