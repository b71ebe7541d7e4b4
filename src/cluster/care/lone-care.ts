/** The care for the etcd of a host that is alone: there is nobody to agree with. */
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import type { MemberCare, Members } from '../../state/members.js';
import type { State } from '../../state/state.js';
import { Observation, type Observed } from '../formation/observation.js';
import { createCare } from './care.js';

export interface LoneCareDeps {
  readonly state: Pick<State, 'get' | 'range'>;
  readonly members: Members & MemberCare;
  readonly quotaBytes: number;
  readonly graceMs: number;
  readonly paceMs?: number;
}

export interface LoneCare {
  view(): LoneCareView;
  /** Resolves when it has ended. */
  stop(): Promise<void>;
}

export interface LoneCareView {
  readonly doing: string | null;
  /** Fails and has not succeeded since. */
  readonly problem: string | null;
  readonly alarms: readonly string[];
}

const PACE_MS = 15_000;
const SOON_MS = 200;

/** Goes on until the signal aborts. */
export function startLoneCare(ctx: Ctx, deps: LoneCareDeps): LoneCare {
  const { members, paceMs = PACE_MS } = deps;
  const observation = new Observation({ ...deps, awayMs: () => 0 });
  const care = createCare({
    ...deps,
    isMine: () => Promise.resolve(true),
    begin: () => Promise.resolve(true),
  });
  const stopping = new AbortController();
  const signal = AbortSignal.any([ctx.signal, stopping.signal]);
  const caller = { ...ctx, signal };
  let seen: Observed | null = null;
  let problem: string | null = null;

  async function attempt(): Promise<boolean> {
    // That etcd does not answer is told where it is used.
    seen = await members
      .list(caller)
      .then((list) => observation.look(caller, list))
      .catch(() => null);
    if (seen === null) return false;
    try {
      const cared = await care.look(caller, seen);
      problem = null;
      return cared;
    } catch (err) {
      const { message } = AppError.from(err);
      if (message !== problem && !signal.aborted)
        ctx.log.warn({ err }, 'the space of etcd cannot be cared for');
      problem = message;
      return false;
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      const cared = await attempt();
      await sleep(cared ? SOON_MS : paceMs, signal);
    }
  }

  const ended = run();
  return {
    view: () => ({ doing: care.doing, problem, alarms: seen?.alarms ?? [] }),
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}
