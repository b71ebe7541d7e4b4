/**
 * Shared state of one host alone: in memory, and in a file of this host, where each write is before it is answered. Writes
 * that come together share a flush.
 *
 * While the file cannot be had, because another process has it, or because it is damaged or gone, each call says why, as
 * with an etcd that is away; what is read later is as it was.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { AppError } from '../errors.js';
import { removeUnfinished } from '../lib/atomic-file.js';
import type { Log } from '../log.js';
import { createKeptState } from './kept-state.js';
import { explained } from './local/file-errors.js';
import { own, type Owner } from './local/owner.js';
import { loadStateFile, StateFile } from './local/state-file.js';
import type { Entry, State } from './state.js';
import { StateMachine, type Step } from './state-machine.js';
import type { Keeper } from './write-line.js';

export interface LocalStateOptions {
  /** Of its own, mode 0700, as this process sees it. */
  readonly directory: string;
  /** The same, as the host calls it. */
  readonly shown: string;
  readonly log: Log;
  /** Files below this are not replaced by shorter ones. */
  readonly leastBytes?: number;
}

const FILE = 'state';
const AGAIN_MS = 1000;

/** Makes the directory, once: one that vanishes later is not made anew. @throws what the file system says */
export async function openLocalState(options: LocalStateOptions): Promise<State> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  return createKeptState(new FileKeeper(options));
}

/** What is kept there, without taking it up; null: there is none. @throws AppError as the state would */
export async function readLocalState(
  options: LocalStateOptions,
  prefix: string,
): Promise<readonly Entry[] | null> {
  const loaded = await loadStateFile(fileOf(options));
  return loaded?.machine.list(prefix).entries ?? null;
}

function fileOf({ directory, shown, ...rest }: LocalStateOptions) {
  return { ...rest, file: path.join(directory, FILE), shown: path.join(shown, FILE) };
}

class FileKeeper implements Keeper {
  readonly #options: LocalStateOptions;
  #machine = new StateMachine();
  #file: StateFile | null = null;
  #owner: Owner | null = null;
  #opening: Promise<void> | null = null;
  #failed: { readonly at: number; readonly reason: AppError } | null = null;

  constructor(options: LocalStateOptions) {
    this.#options = options;
  }

  get machine(): StateMachine {
    return this.#machine;
  }

  async ready(): Promise<void> {
    if (this.#file) return;
    if (this.#failed && performance.now() - this.#failed.at < AGAIN_MS) throw this.#failed.reason;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = null;
    });
    await this.#opening;
  }

  async keep(steps: readonly Step[]): Promise<void> {
    await this.#file?.append(steps, this.#machine);
  }

  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    await this.#file?.close();
    await this.#owner?.release();
  }

  async #open(): Promise<void> {
    const { directory, shown } = this.#options;
    try {
      this.#owner ??= await own(directory, shown);
      await removeUnfinished(directory);
      const { file, machine } = await StateFile.open(fileOf(this.#options));
      [this.#file, this.#machine] = [file, machine];
    } catch (cause) {
      await this.#owner?.release();
      this.#owner = null;
      const reason = explained(cause, shown);
      this.#failed = { at: performance.now(), reason };
      throw reason;
    }
  }
}
