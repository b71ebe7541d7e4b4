/** What is told of a member from its first look on: only what was looked for long enough is down. */
import { describe, expect, it } from 'vitest';
import { Observation, type ObservationDeps } from '../../../../src/cluster/formation/observation.js';
import { reportsOf } from '../../../../src/cluster/formation/reports.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';
import type { Member, MemberStatus } from '../../../../src/state/members.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const PACE_MS = 2000;

function member(id: string, more: Partial<Member> = {}): Member {
  return { id, name: id, peerUrls: [`p${id}`], clientUrls: [`c${id}`], learner: false, ...more };
}

const learner = { learner: true } as const;
/** As etcd lists one that was never started. */
const added = { ...learner, name: '', clientUrls: [] } as const;

/** Looks once for each entry: how the member is listed, and whether it answers and follows a leader. */
async function told(looks: readonly { as?: Partial<Member>; well: boolean }[]): Promise<unknown[]> {
  let now = 1000;
  let isWell = false;
  const status = (id: string): MemberStatus => ({
    ...{ id, clusterId: '1', version: '3.5.16', leader: '1', appliedIndex: 7, learner: false },
    ...{ dbBytes: 1, dbBytesInUse: 1 },
  });
  const members = {
    alarms: () => Promise.resolve([]),
    status: (_ctx: Ctx, url: string) => {
      if (url === 'c2' && !isWell) return Promise.reject(new Error('connection refused'));
      return Promise.resolve(status(url.slice(1)));
    },
    // The cast: a look asks for nothing else; anything more throws.
  } as unknown as ObservationDeps['members'];
  const state = createMemoryState();
  const observation = new Observation({ state, members, awayMs: () => 0, now: () => now });
  const answers: unknown[] = [];
  for (const { as = {}, well } of looks) {
    isWell = well;
    const list = { clusterId: '1', members: [member('1'), member('2', as)] };
    const [, report] = reportsOf(await observation.look(ctx, list));
    answers.push(report?.healthy === true ? 'healthy' : (report?.coming ?? report?.unreachableSeconds));
    now += PACE_MS;
  }
  await state.close();
  return answers;
}

describe('the report of a member', () => {
  it('says of one that was added, and of one that starts, that it is not down', async () => {
    expect(
      await told([
        { as: added, well: false },
        { as: added, well: false },
        { as: learner, well: true },
        { well: true },
      ]),
    ).toEqual(['not started', 'not started', 'healthy', 'healthy']);
  });

  it('waits for a second look at one that it has never seen', async () => {
    expect(await told([{ well: false }, { well: false }, { well: false }])).toEqual(['unseen', 'unseen', 4]);
  });

  it('says of one that it has seen that it is down, at once', async () => {
    expect(await told([{ well: true }, { well: false }, { well: false }])).toEqual(['healthy', 0, 2]);
  });

  it('forgets one that is no member any more', async () => {
    const gone = { id: '3', peerUrls: ['p3'], clientUrls: ['c2'] };
    expect(await told([{ well: true }, { as: gone, well: false }, { well: false }])).toEqual([
      'healthy',
      'unseen',
      'unseen',
    ]);
  });
});
