/** Runs the chosen cases in order, and leaves the driver as it was. */
import { execFile } from 'node:child_process';
import type { Case, Group, Outcome, Verdict } from './case.js';
import { Skip } from './case.js';
import { patient, takeBack } from './cleanup.js';
import { Interrupted, shorten, type Trial } from './trial.js';
import { Complaint } from './wire.js';

export interface Plan {
  readonly groups: readonly Group[];
  readonly skipMount: boolean;
  readonly outage: { readonly begin: string; readonly end: string } | null;
}

export interface Run {
  /** Ends it after the call that is under way; what was made is taken back all the same. */
  interrupt(): void;
  /** False when it was interrupted. */
  readonly finished: Promise<boolean>;
}

export function startRun(trial: Trial, plan: Plan, tell: (outcome: Outcome) => void): Run {
  const state = { interrupted: false };
  return {
    interrupt() {
      state.interrupted = true;
      trial.stop();
    },
    finished: new Runner(trial, plan, { tell, interrupted: () => state.interrupted }).run(),
  };
}

interface Around {
  readonly tell: (outcome: Outcome) => void;
  readonly interrupted: () => boolean;
}

class Runner {
  readonly #trial: Trial;
  readonly #plan: Plan;
  readonly #around: Around;
  #lastMs = performance.now();

  constructor(trial: Trial, plan: Plan, around: Around) {
    this.#trial = trial;
    this.#plan = plan;
    this.#around = around;
  }

  async run(): Promise<boolean> {
    try {
      for (const group of this.#plan.groups) {
        if (group.needs === 'outage') await this.#runOutage(group);
        else await this.#runCases(group, group.cases);
      }
    } finally {
      this.#trial.hangUp();
      this.#trial.resume();
      await this.#leaveNothing();
    }
    return !this.#around.interrupted();
  }

  async #runOutage(group: Group): Promise<void> {
    const hooks = this.#plan.outage;
    const all = [...group.cases, ...(group.after ?? [])];
    if (!hooks) {
      this.#skip(group, all, 'needs --outage-begin and --outage-end');
      return;
    }
    try {
      await group.before?.(this.#trial);
      await runHook(hooks.begin);
    } catch (reason) {
      await runHook(hooks.end).catch(() => undefined);
      for (const each of all) this.#tell(group, each, ['failed', this.#describe(reason)]);
      return;
    }
    let ended: unknown = null;
    try {
      await this.#runCases(group, group.cases);
    } finally {
      ended = await runHook(hooks.end).catch((reason: unknown) => reason);
    }
    if (ended instanceof Error) {
      for (const each of group.after ?? []) this.#tell(group, each, ['failed', this.#describe(ended)]);
    } else await this.#runCases(group, group.after ?? []);
  }

  async #runCases(group: Group, cases: readonly Case[]): Promise<void> {
    for (const each of cases) {
      if (this.#around.interrupted()) this.#skip(group, [each], 'interrupted');
      else if (each.needs === 'mount' && this.#plan.skipMount) this.#skip(group, [each], '--skip-mount');
      else this.#tell(group, each, await this.#judge(group, each));
    }
  }

  async #judge(group: Group, each: Case): Promise<[Verdict, string]> {
    const trial = this.#trial;
    trial.transcript.length = 0;
    const before = new Set(trial.touched);
    let judged: [Verdict, string];
    try {
      const note = await each.run(trial);
      judged = ['passed', shorten(note ?? trial.transcript.at(-1) ?? '')];
    } catch (reason) {
      const skipped = reason instanceof Skip || reason instanceof Interrupted;
      judged = skipped ? ['skipped', reason.message] : ['failed', this.#describe(reason)];
    }
    trial.hangUp();
    // What stays is told at the end, where it is tried again.
    if (group.keeps !== true && !this.#around.interrupted()) await takeBack(trial, 1, before).catch(() => []);
    return judged;
  }

  #describe(reason: unknown): string {
    const last = this.#trial.transcript.slice(-4);
    if (reason instanceof Complaint) {
      const known = last.filter((line) => !reason.message.includes(line));
      return known.length === 0 ? reason.message : `${reason.message} | before: ${known.join(' | ')}`;
    }
    const text = reason instanceof Error ? (reason.stack ?? reason.message) : String(reason);
    return `the case itself broke: ${text.split('\n').slice(0, 3).join(' ')} | ${last.join(' | ')}`;
  }

  #skip(group: Group, cases: readonly Case[], reason: string): void {
    for (const each of cases) this.#tell(group, each, ['skipped', reason]);
  }

  #tell(
    group: Pick<Group, 'name'>,
    { name, why }: Pick<Case, 'name' | 'why'>,
    judged: [Verdict, string],
  ): void {
    const [verdict, detail] = judged;
    const now = performance.now();
    const tookMs = Math.round(now - this.#lastMs);
    this.#lastMs = now;
    this.#around.tell({ group: group.name, case: name, why, verdict, detail, tookMs });
  }

  async #leaveNothing(): Promise<void> {
    const what = { name: 'nothing is left of the volumes that were made', why: 'all of the above' };
    const made = this.#trial.touched.size;
    try {
      const stayed = await takeBack(this.#trial, patient);
      const own = (await this.#trial.list()).map(({ Name }) => String(Name));
      const left = [...stayed, ...own.filter((name) => name.includes(this.#trial.settings.prefix))];
      const judged: [Verdict, string] =
        left.length === 0
          ? ['passed', `${String(made)} were left to take back at the end`]
          : ['failed', `still there: ${[...new Set(left)].join(', ')}`];
      this.#tell({ name: 'leftovers' }, what, judged);
    } catch (reason) {
      this.#tell({ name: 'leftovers' }, what, ['failed', this.#describe(reason)]);
    }
  }
}

function runHook(command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('/bin/sh', ['-c', command], { timeout: 120_000 }, (error, stdout, stderr) => {
      if (error)
        reject(new Complaint(`the hook ${command} failed: ${error.message} ${stdout}${stderr}`.trim()));
      else resolve();
    });
  });
}
