/** Whether a device may be taken away now: not while the engine starts or stops, as far as anybody can tell. */
import type { Ctx } from '../context.js';
import type { Initiator } from '../dataplane/initiator.js';
import type { RoleObservation } from '../dataplane/role-container.js';
import { sleep } from '../lib/sleep.js';
import type { Wanted } from './plan.js';

export interface DetachableDeps {
  readonly initiator: Pick<Initiator, 'observe' | 'hasContainer'>;
  readonly engineAnswers: (ctx: Ctx) => Promise<boolean>;
}

/**
 * A stopping engine signals all containers at once, goes on answering, and sends our unmounts; it lives at most
 * as long as its slowest container may drain. An initiator that has been away for longer was taken away.
 */
const ABANDONED_MS = 150_000;
/** So long an engine that stops may take from one container's signal to the next one's. */
const SECOND_LOOK_MS = 40;

export class Detachable {
  readonly #deps: DetachableDeps;
  /** Volume id -> when its initiator was first seen away, by the monotonic clock. */
  readonly #awaySince = new Map<string, number>();

  constructor(deps: DetachableDeps) {
    this.#deps = deps;
  }

  /**
   * See ABANDONED_MS. An absence ends when the initiator serves, is gone, or was needed again meanwhile. `insist`:
   * the caller knows that the engine is not stopping.
   */
  async is(ctx: Ctx, wanted: Wanted, observed: RoleObservation, insist?: boolean): Promise<boolean> {
    const { engineAnswers } = this.#deps;
    const { id } = wanted.volume;
    if (wanted.mounted || !observed.present) this.#awaySince.delete(id);
    if (wanted.mounted) return false;
    if (!observed.present || insist === true) return engineAnswers(ctx);
    return this.#isSettled(ctx, id, observed);
  }

  async #isSettled(ctx: Ctx, volumeId: string, observed: RoleObservation): Promise<boolean> {
    const { initiator, engineAnswers } = this.#deps;
    if (serves(observed)) {
      this.#awaySince.delete(volumeId);
      await sleep(SECOND_LOOK_MS, ctx.signal);
      return serves(await initiator.observe(ctx, volumeId)) && engineAnswers(ctx);
    }
    if (observed.status === null && (await this.#isGone(ctx, volumeId))) return true;
    const since = this.#awaySince.get(volumeId) ?? performance.now();
    this.#awaySince.set(volumeId, since);
    return performance.now() - since > ABANDONED_MS && engineAnswers(ctx);
  }

  /** An engine that stops keeps its containers: one that is not there was removed, perhaps by us, with the rest to do. */
  async #isGone(ctx: Ctx, volumeId: string): Promise<boolean> {
    const { initiator, engineAnswers } = this.#deps;
    // A starting engine lets the second question wait.
    return (await engineAnswers(ctx)) && !(await initiator.hasContainer(ctx, volumeId).catch(() => true));
  }
}

function serves({ status }: RoleObservation): boolean {
  return status !== null && status.state !== 'draining';
}
