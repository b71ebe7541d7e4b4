/**
 * The thread in which policies of users run.
 *
 * Each is a module in a JavaScript engine of its own, compiled to WebAssembly: it has the language and nothing else, no
 * files, no network, no timers, no clock but the one it could read from Date, which is taken away, as is chance. It has
 * so much memory and so much time for a call; what it does to its globals, or its engine, harms itself only.
 *
 * Imports packages alone, as it is a file of its own to the thread. sandbox.ts is the other end.
 */
import { parentPort } from 'node:worker_threads';
import variant from '@jitl/quickjs-wasmfile-release-sync';
import {
  newQuickJSWASMModuleFromVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSRuntime,
  type QuickJSSyncVariant,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core';

export type SandboxRequest = StartRequest | LoadRequest | RunRequest | UnloadRequest;

/** Answered when the engine is ready. */
interface StartRequest {
  readonly start: true;
  readonly limitMs: number;
}

interface LoadRequest {
  readonly load: string;
  readonly source: string;
  readonly file: string;
  readonly limitMs: number;
}

interface RunRequest {
  readonly run: string;
  readonly kind: string;
  readonly input: string;
  readonly limitMs: number;
}

interface UnloadRequest {
  readonly unload: string;
}

/** Texts of JSON, or of an error. */
export type SandboxAnswer = { readonly ok: string } | SandboxFailure;

export interface SandboxFailure {
  readonly error: string;
  /** It met the limit of time. */
  readonly isSlow?: boolean;
  /** What it keeps in its variables leaves it no memory: it has to be loaded anew. */
  readonly isSpent?: boolean;
}

interface Loaded {
  readonly runtime: QuickJSRuntime;
  readonly context: QuickJSContext;
  readonly module: QuickJSHandle;
  readonly call: QuickJSHandle;
  /** All that has to be given back. */
  readonly handles: readonly QuickJSHandle[];
}

const MEMORY_BYTES = 16 * 1024 * 1024;
/** WebAssembly's own stack holds several of QuickJS's frames: deeper, and the thread's would overflow first. */
const STACK_BYTES = 128 * 1024;
const MAX_RESULT_CHARS = 1024 * 1024;

/** Deterministic: the same object gives the same keys on every host, at any time. */
const PRELUDE = `
  delete globalThis.Date;
  delete Math.random;
  (function (module, kind, input) {
    const freeze = (value) => {
      if (value === null || typeof value !== 'object') return value;
      for (const name of Object.keys(value)) freeze(value[name]);
      return Object.freeze(value);
    };
    const [object, config] = freeze(JSON.parse(input));
    const result = module[kind](object, config);
    return JSON.stringify([result], (name, value) => {
      if (typeof value === 'function' || typeof value === 'symbol' || typeof value === 'bigint')
        throw new TypeError('a ' + typeof value + ' is no value' + (name === '' ? '' : ': ' + name));
      return value === undefined ? null : value;
    });
  })
`;

/** What a module exports, as far as the other end wants to know. */
const DESCRIBE = `
  (function (module) {
    const kinds = Object.keys(module).filter((name) => typeof module[name] === 'function');
    const values = Object.keys(module).filter((name) => typeof module[name] !== 'function');
    return JSON.stringify({ kinds, exports: Object.fromEntries(values.map((name) => [name, module[name]])) });
  })
`;

let engine: Promise<QuickJSWASMModule> | undefined;
const loaded = new Map<string, Loaded>();

parentPort?.on('message', ({ id, request }: { id: number; request: SandboxRequest }) => {
  void answer(request).then((message) => parentPort?.postMessage({ id, answer: message }));
});

async function answer(request: SandboxRequest): Promise<SandboxAnswer> {
  try {
    if ('start' in request) return await compiled().then(() => ({ ok: 'null' }));
    if ('load' in request) return load(await compiled(), request);
    if ('run' in request) return run(request);
    unload(request.unload);
    return { ok: 'null' };
  } catch (reason) {
    // Not the policy failed but the engine below it: who asks gets another thread.
    setImmediate(() => process.exit(1));
    return { error: reason instanceof Error ? reason.message : String(reason) };
  }
}

async function compiled(): Promise<QuickJSWASMModule> {
  // Its types are those of another module system.
  engine ??= newQuickJSWASMModuleFromVariant(variant as unknown as QuickJSSyncVariant);
  return engine;
}

function load(quickJs: QuickJSWASMModule, { load: name, source, file, limitMs }: LoadRequest): SandboxAnswer {
  unload(name);
  const runtime = quickJs.newRuntime();
  runtime.setMemoryLimit(MEMORY_BYTES);
  runtime.setMaxStackSize(STACK_BYTES);
  runtime.setModuleLoader((imported) => ({ error: new Error(`a policy is one file: no ${imported} in it`) }));
  const context = runtime.newContext();
  limit(runtime, limitMs);
  const handles: QuickJSHandle[] = [];
  const kept = (outcome: Outcome): QuickJSHandle => {
    const result = valueOf(context, outcome);
    if ('error' in result) throw new PolicyError(result.error);
    handles.push(result.value);
    return result.value;
  };
  try {
    const call = kept(context.evalCode(PRELUDE, 'prelude.js'));
    const module = kept(context.evalCode(source, file, { type: 'module' }));
    const describe = kept(context.evalCode(DESCRIBE, 'describe.js'));
    const described = context.getString(kept(context.callFunction(describe, context.undefined, module)));
    if (described.length > MAX_RESULT_CHARS) throw new PolicyError('what it exports is too long');
    loaded.set(name, { runtime, context, module, call, handles });
    return { ok: described };
  } catch (reason) {
    if (!(reason instanceof PolicyError)) throw reason;
    dispose({ runtime, context, handles });
    return explained(reason.message, limitMs);
  }
}

/** What is wrong with the policy, not with what runs it. */
class PolicyError extends Error {}

function run({ run: name, kind, input, limitMs }: RunRequest): SandboxAnswer {
  const policy = loaded.get(name);
  if (!policy) return { error: 'it is not loaded' };
  const { context, runtime, module, call } = policy;
  limit(runtime, limitMs);
  const [kindHandle, inputHandle] = [context.newString(kind), context.newString(input)];
  const outcome = context.callFunction(call, context.undefined, module, kindHandle, inputHandle);
  kindHandle.dispose();
  inputHandle.dispose();
  const result = valueOf(context, outcome);
  if ('error' in result) return explained(result.error, limitMs);
  const text = context.getString(result.value);
  result.value.dispose();
  if (text.length <= MAX_RESULT_CHARS) return { ok: text };
  return { error: `it returns ${String(text.length)} characters of at most ${String(MAX_RESULT_CHARS)}` };
}

function unload(name: string): void {
  const policy = loaded.get(name);
  if (!policy) return;
  loaded.delete(name);
  dispose(policy);
}

function dispose({ runtime, context, handles }: Pick<Loaded, 'runtime' | 'context' | 'handles'>): void {
  for (const handle of handles) handle.dispose();
  context.dispose();
  runtime.dispose();
}

/**
 * Of the time that this thread has had: on a busy host, or one that was suspended, a clock alone would blame the policy.
 * What has used a tenth of it ends by the clock as well, before the other end takes the thread for stuck.
 */
function limit(runtime: QuickJSRuntime, limitMs: number): void {
  const [startMs, usedBefore] = [performance.now(), usedMs()];
  runtime.setInterruptHandler(() => {
    const used = usedMs() - usedBefore;
    return used > limitMs || (used > limitMs / 10 && performance.now() - startMs > limitMs * 1.5);
  });
}

function usedMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

type Outcome = ReturnType<QuickJSContext['evalCode']>;

function valueOf(context: QuickJSContext, outcome: Outcome): { value: QuickJSHandle } | { error: string } {
  if (!outcome.error) return { value: outcome.value };
  const error: unknown = context.dump(outcome.error);
  outcome.error.dispose();
  return { error: textOf(error) };
}

/** What the policy threw, with the line of it. */
function textOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return String(error);
  const { name, message, stack } = error as Record<string, unknown>;
  const [where] = typeof stack === 'string' ? stack.trim().split('\n') : [];
  const place = /\(([^()]*:\d+)/.exec(where ?? '')?.[1];
  const text = [name, message].filter((part) => typeof part === 'string' && part !== '').join(': ');
  return place === undefined ? text : `${text} (${place})`;
}

function explained(error: string, limitMs: number): SandboxAnswer {
  if (error.includes('interrupted'))
    return { error: `it took longer than ${String(limitMs)} ms`, isSlow: true };
  if (!error.includes('out of memory')) return { error };
  return { error: `it took more than ${String(MEMORY_BYTES / 1024 / 1024)} MiB of memory`, isSpent: true };
}
