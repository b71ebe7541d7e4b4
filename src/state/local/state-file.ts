/**
 * The file with the state of this host: steps are added at its end, and when it has grown to a multiple of what is there,
 * it is replaced by one that says just that.
 *
 * INVARIANTS
 * - What is acknowledged was flushed, and the file that was flushed is the one that has the name.
 * - After a flush that failed nobody knows what is on disk, and the next one may succeed without having written it. So
 *   the file is doubtful, and replaced as a whole, from memory, before anything else is acknowledged.
 */
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { AppError } from '../../errors.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';
import { failPoint } from '../../lib/fail-points.js';
import type { Log } from '../../log.js';
import { StateMachine, type Step } from '../state-machine.js';
import { encodeSteps, framesOf, replay } from './codec.js';
import { damaged, explained } from './file-errors.js';
import { frameOf, readFrames } from './frames.js';

export interface StateFileOptions {
  /** As this process sees it, and as it is called on the host. */
  readonly file: string;
  readonly shown: string;
  readonly log: Log;
  /** Files below this are not replaced. */
  readonly leastBytes?: number;
}

const LEAST_BYTES = 2 ** 20;
/** A file is replaced when it is so many times as long as what it began with. */
const LONGEST = 3;

export interface LoadedFile {
  readonly machine: StateMachine;
  readonly end: number;
  readonly chain: number;
  readonly tornBytes: number;
}

/** Null: there is none. @throws AppError `unavailable` for one that is damaged, with what to do */
export async function loadStateFile({ file, shown }: StateFileOptions): Promise<LoadedFile | null> {
  const content = await readFile(file).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw explained(reason, shown);
  });
  if (content === null) return null;
  const { payloads, end, chain, damagedAt } = readFrames(content);
  try {
    const machine = replay(payloads);
    if (machine === null || damagedAt !== null) throw damaged(shown, damagedAt ?? end, machine !== null);
    return { machine, end, chain, tornBytes: content.length - end };
  } catch (reason) {
    throw AppError.from(reason, 'unavailable', shown);
  }
}

export class StateFile {
  readonly #options: StateFileOptions;
  #handle: FileHandle | null = null;
  #size = 0;
  #chain = 0;
  #isDoubtful = true;
  #replaceAt = 0;

  private constructor(options: StateFileOptions) {
    this.#options = options;
  }

  /** Takes up the file, or begins one that has nothing in it. @throws AppError */
  static async open(options: StateFileOptions): Promise<{ file: StateFile; machine: StateMachine }> {
    const file = new StateFile(options);
    try {
      const loaded = await loadStateFile(options);
      const machine = loaded?.machine ?? new StateMachine();
      await (loaded ? file.#takeUp(loaded) : file.#replace(machine));
      return { file, machine };
    } catch (reason) {
      await file.close();
      throw explained(reason, options.shown);
    }
  }

  /** Resolves when the steps, which the machine has taken, are on disk. @throws AppError: none of them counts */
  async append(steps: readonly Step[], machine: StateMachine): Promise<void> {
    const { shown, log } = this.#options;
    if (this.#isDoubtful) {
      await this.#replace(machine).catch((reason: unknown) => {
        throw explained(reason, shown);
      });
      log.warn({ file: shown }, 'written anew: it was gone, or a write to it had failed');
      return;
    }
    await this.#add(encodeSteps(steps));
    if (this.#size <= this.#replaceAt) return;
    await this.#replace(machine).catch((err: unknown) => {
      // The longer one serves as well.
      this.#replaceAt = this.#size * 2;
      log.warn({ err: explained(err, shown), file: shown }, 'not made shorter: trying again later');
    });
  }

  async close(): Promise<void> {
    await this.#handle?.close().catch(() => undefined);
    this.#handle = null;
  }

  async #takeUp({ end, chain, tornBytes }: LoadedFile): Promise<void> {
    const { file, shown, log } = this.#options;
    this.#handle = await open(file, 'r+');
    if (tornBytes > 0) {
      log.warn({ file: shown, bytes: tornBytes }, 'a write that nobody was told of was cut off: dropped');
      await this.#handle.truncate(end);
    }
    // A process that was killed may have left what is not on disk yet; from here on it is believed.
    await this.#handle.sync();
    [this.#size, this.#chain, this.#isDoubtful] = [end, chain, false];
    this.#replaceAt = this.#limit(end);
  }

  #limit(bytes: number): number {
    return Math.max(this.#options.leastBytes ?? LEAST_BYTES, bytes * LONGEST);
  }

  async #add(payload: Buffer): Promise<void> {
    const { shown } = this.#options;
    const { frame, chain } = frameOf(payload, this.#chain);
    try {
      await failPoint('before state write');
      await this.#writeAll(frame);
    } catch (reason) {
      await this.#cutBack();
      throw explained(reason, shown);
    }
    try {
      await failPoint('before state flush');
      await this.#handle?.datasync();
      await failPoint('after state flush');
      if (!(await this.#hasItsName())) throw Object.assign(new Error('it was removed'), { code: 'ENOENT' });
    } catch (reason) {
      this.#isDoubtful = true;
      const { message } = explained(reason, shown);
      throw new AppError('unavailable', message, { cause: reason });
    }
    this.#size += frame.length;
    this.#chain = chain;
  }

  async #writeAll(frame: Buffer): Promise<void> {
    for (let written = 0; written < frame.length;) {
      const rest = frame.length - written;
      const done = await this.#handle?.write(frame, written, rest, this.#size + written);
      written += done?.bytesWritten ?? 0;
    }
  }

  /** What was written of a frame must not be there after all, as its callers are told so. */
  async #cutBack(): Promise<void> {
    try {
      await this.#handle?.truncate(this.#size);
      await this.#handle?.sync();
    } catch {
      this.#isDoubtful = true;
    }
  }

  async #replace(machine: StateMachine): Promise<void> {
    const { file } = this.#options;
    let chain = 0;
    try {
      const frames = framesOf(machine, (last) => {
        chain = last;
      });
      await writeFileAtomic(file, frames);
      const handle = await open(file, 'r+');
      await this.close();
      this.#handle = handle;
    } catch (reason) {
      // The name may be that of the new file already, whose handle is not ours.
      this.#isDoubtful ||= !(await this.#hasItsName());
      throw reason;
    }
    this.#size = (await this.#handle.stat()).size;
    [this.#chain, this.#isDoubtful] = [chain, false];
    this.#replaceAt = this.#limit(this.#size);
  }

  async #hasItsName(): Promise<boolean> {
    const [named, ours] = await Promise.all([
      stat(this.#options.file).catch(() => null),
      this.#handle?.stat().catch(() => null),
    ]);
    return named !== null && named.ino === ours?.ino && named.dev === ours.dev;
  }
}
