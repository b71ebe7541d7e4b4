import { describe, expect, it } from 'vitest';
import { refuseCopy } from '../../../../src/cluster/formation/copies.js';
import type { Ctx } from '../../../../src/context.js';
import { createHostPaths } from '../../../../src/dataplane/host-paths.js';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';
import type { Members } from '../../../../src/state/members.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const urlOf = (host: number) => `https://10.0.0.${String(host)}:23790`;
const [one, two, three] = [urlOf(1), urlOf(2), urlOf(3)];

interface World {
  /** Which member answers where. */
  readonly answers: Readonly<Record<string, string>>;
  /** Where the list has member 1; null: no majority. */
  readonly listed: string | null;
}

/** What is said on the host at 10.0.0.3, whose data is that of member 1. */
function judge({ answers, listed }: World): Promise<void> {
  const away = () => Promise.reject(new AppError('unavailable', 'away'));
  const members = {
    list: () =>
      listed === null
        ? away()
        : Promise.resolve({ clusterId: '77', members: [{ id: '1', clientUrls: [listed] }] }),
    status: (_ctx: Ctx, url: string) => {
      const id = answers[url];
      return id === undefined ? away() : Promise.resolve({ id, leader: id === '5' ? null : '2' });
    },
    // The cast: it looks at nothing else of them.
  } as unknown as Members;
  const paths = createHostPaths('/', '/mnt');
  return refuseCopy(ctx, { members, paths }, { member: '1', own: three, known: [one, two] });
}

describe('the data of a member', () => {
  it('is a copy when the member answers where it was known', async () => {
    await expect(judge({ answers: { [one]: '1', [two]: '2' }, listed: null })).rejects.toThrow(
      /is a copy: its member answers at https:\/\/10\.0\.0\.1:23790/,
    );
  });

  it('is a copy when the member answers where the list has it', async () => {
    const other = urlOf(9);
    await expect(judge({ answers: { [two]: '2', [other]: '1' }, listed: other })).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it.each([
    ['the others answer', { answers: { [two]: '2' }, listed: one }],
    ['nobody answers', { answers: {}, listed: null }],
    ['another has the address that it was known at', { answers: { [one]: '5' }, listed: null }],
    ['the list has it here', { answers: { [three]: '1' }, listed: three }],
  ])('is its own when %s', async (_, world) => {
    await expect(judge(world)).resolves.toBeUndefined();
  });
});
