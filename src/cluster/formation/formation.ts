/**
 * The life of the plugin's own etcd on this host once others can join: every two seconds the list of the members is
 * read, this host's part is made true to it, and whoever holds the lock changes it where it is not as wanted.
 */
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { AppError } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import type { ManagerRecord } from '../../state/records.js';
import type { MemberList } from '../../state/members.js';
import type { LocalMember } from './local-member.js';
import { manage, type ManagerDeps } from './manager.js';
import { endpointsOf, type Observed } from './observation.js';
import type { FormationView, MemberReport, MemberRole } from './view.js';

export interface FormationDeps extends ManagerDeps {
  readonly local: LocalMember;
  /** Clients go there from now on. */
  readonly follow: (endpoints: readonly string[]) => Promise<void>;
  /** No majority answers: where else to look. */
  readonly search: (ctx: Ctx) => Promise<void>;
  readonly paceMs?: number;
}

export interface Formation {
  /** Goes on until the signal aborts. Never rejects. */
  run(ctx: Ctx): Promise<void>;
  /** As seen last. */
  view(ctx: Ctx): Promise<FormationView>;
}

const PACE_MS = 2000;
const TURN_TIMEOUT_MS = 60_000;
const SOON_MS = 100;

export function createFormation(deps: FormationDeps): Formation {
  let seen: Observed | null = null;
  let problem: string | null = null;

  async function turn(ctx: Ctx): Promise<boolean> {
    let list: MemberList;
    try {
      list = await deps.members.list(ctx);
    } catch (reason) {
      seen = null;
      await deps.search(ctx);
      throw reason;
    }
    const endpoints = endpointsOf(list);
    if (endpoints) await deps.follow(endpoints);
    const followed = await deps.local.follow(ctx, list).then(
      () => null,
      (reason: unknown) => AppError.from(reason),
    );
    seen = await deps.observation.look(ctx, list);
    const moved = await manage(ctx, deps, seen);
    if (followed) throw followed;
    return moved;
  }

  return {
    async run(ctx) {
      while (!ctx.signal.aborted) {
        const moved = await turn(withDeadline(ctx, TURN_TIMEOUT_MS)).then(
          (done) => {
            problem = null;
            return done;
          },
          (reason: unknown) => {
            const { message } = AppError.from(reason);
            if (message !== problem && !ctx.signal.aborted)
              ctx.log.warn({ err: reason }, 'the members of etcd cannot be looked after');
            problem = message;
            return false;
          },
        );
        await sleep(moved ? SOON_MS : (deps.paceMs ?? PACE_MS), ctx.signal);
      }
      await deps.lock.release({ ...ctx, signal: AbortSignal.timeout(1000) }).catch(() => undefined);
    },
    async view(ctx) {
      const manager: ManagerRecord | null = await deps.lock.read(ctx).catch(() => null);
      return {
        role: roleOf(deps.local, seen),
        voters: seen?.voters ?? 0,
        members: seen === null ? [] : messagesOf(seen),
        doing: manager === null || manager.doing === '' ? null : manager.doing,
        manager: manager?.node ?? null,
        problem,
        alarms: seen?.alarms ?? [],
      };
    },
  };
}

function roleOf({ has, lost }: LocalMember, seen: Observed | null): MemberRole {
  if (lost) return 'lost';
  if (has === null) return 'spare';
  return seen?.members.find(({ id }) => id === has)?.learner === true ? 'learner' : 'voter';
}

function messagesOf({ members, hosts, statuses }: Observed): MemberReport[] {
  return members.map(({ id, peerUrl, learner, unreachableMs, leader, lag }) => {
    const status = statuses.get(id);
    return {
      id,
      node: hosts.find((host) => host.peerUrl === peerUrl)?.node ?? null,
      peerUrl,
      role: learner ? ('learner' as const) : ('voter' as const),
      healthy: unreachableMs === 0,
      leader,
      unreachableSeconds: unreachableMs === 0 ? null : Math.floor(unreachableMs / 1000),
      lag,
      dbBytes: status?.dbBytes ?? null,
      version: status?.version ?? '',
    };
  });
}
