/**
 * Two registrators that want the same keys, as two hosts would: in every order of start, stop and crash. As long as one of
 * them lives no watcher sees a key of it vanish; when both are gone nothing is left. REGISTRATOR_SEED repeats a run.
 */
import { beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { createRandom } from '../soak/random.js';
import type { TestEtcd } from '../support/etcd.js';
import { sleep, waitFor } from '../support/exec.js';
import { claimOf, historyOf, keysIn, type RegistratorProcess } from '../support/registrator.js';
import { becomes, isEmpty, registratorLab, type Staying, wereNeverAway } from '../support/registrator-lab.js';

const seed = Number(process.env['REGISTRATOR_SEED'] ?? Date.now() % 1_000_000);
const { begin, ownerOf, up } = registratorLab('registrator-owners');

/** With the same value, and with values of their own. */
const SAME = '/shared/same';
const DIFFERENT = '/shared/different';
type Name = 'one' | 'other';
const names: readonly Name[] = ['one', 'other'];
const values = { one: 'b', other: 'a' } as const;
/** What two that want different values settle on. */
const SMALLER = 'a';
const otherThan = (name: Name): Name => (name === 'one' ? 'other' : 'one');

beforeAll(async () => {
  await up('quiet', '-l', 'shared=yes');
});

/** By a lease so short that who waits for its end need not wait long. */
async function two(context: TestContext, LEASE = '5s') {
  const { etcd, registrator } = await begin(context);
  const made = new Map(
    names.map((name) => {
      const one = registrator({ INSTANCE: name, POLICIES: 'none', LEASE, AT_STOP: 'withdraw' });
      const keys = `{ '${SAME}': 'same', '${DIFFERENT}': '${values[name]}' }`;
      const policy = `export const container = ({ labels }) => (labels.shared ? ${keys} : null);`;
      one.policies.write('shared.js', policy);
      return [name, one];
    }),
  );
  return { etcd, start: (name: Name) => made.get(name)!.start() };
}

async function have(etcd: TestEtcd, different: string): Promise<void> {
  await becomes(etcd, DIFFERENT, different);
  await becomes(etcd, SAME, 'same');
}

async function madeAt(etcd: TestEtcd): Promise<Staying> {
  const found = await keysIn(etcd);
  return new Map([SAME, DIFFERENT].map((key) => [key, found.get(key)?.created ?? 0]));
}

async function claims(etcd: TestEtcd, name: Name, expected: 'all' | 'nothing'): Promise<void> {
  await waitFor(`${name} claims ${expected}`, async () => {
    const found = await keysIn(etcd);
    return [SAME, DIFFERENT].every((key) => found.has(claimOf(key, ownerOf(name))) === (expected === 'all'));
  });
}

/** The values that it has had, one after the other. */
async function valuesOf(etcd: TestEtcd, key: string): Promise<(string | null)[]> {
  const history = (await historyOf(etcd, key, 0)).map(({ value }) => value);
  return runs(history);
}

function runs<T>(all: readonly T[]): T[] {
  return all.filter((one, index) => index === 0 || one !== all[index - 1]);
}

const ends = {
  TERM: (process: RegistratorProcess) => process.stop(),
  KILL: (process: RegistratorProcess) => process.kill(),
} as const;
const ways = ['TERM', 'KILL'] as const;
const orders = names.flatMap((starts) =>
  names.flatMap((leaves) => ways.flatMap((first) => ways.map((last) => ({ starts, leaves, first, last })))),
);

describe.concurrent('keys of two owners', () => {
  it.for(orders)(
    '$starts starts first, $leaves ends first, by $first, and the last one by $last',
    async ({ starts, leaves, first, last }, context) => {
      const { etcd, start } = await two(context);
      const processes = new Map([[starts, await start(starts)]]);
      await have(etcd, values[starts]);
      const staying = await madeAt(etcd);
      processes.set(otherThan(starts), await start(otherThan(starts)));
      await claims(etcd, otherThan(starts), 'all');
      await have(etcd, SMALLER);

      await ends[first](processes.get(leaves)!);
      await claims(etcd, leaves, 'nothing');
      const remains = otherThan(leaves);
      await have(etcd, values[remains]);
      // Whoever ended has taken the key with it by now, if ever.
      await sleep(1_000);
      await wereNeverAway(etcd, staying);
      expect(await valuesOf(etcd, SAME)).toEqual(['same']);
      expect(await valuesOf(etcd, DIFFERENT)).toEqual(runs([values[starts], SMALLER, values[remains]]));

      await ends[last](processes.get(remains)!);
      await isEmpty(etcd);
    },
  );

  it('one is killed while the other starts, time after time', async (context) => {
    // Longer than a start takes on a busy machine.
    const { etcd, start } = await two(context, '15s');
    const random = createRandom(seed);
    let standing: Name = 'one';
    let process = await start(standing);
    await have(etcd, values[standing]);
    const staying = await madeAt(etcd);
    for (let round = 0; round < 3; round += 1) {
      const next = await start(otherThan(standing));
      await sleep(random.below(2_000));
      await process.kill();
      await claims(etcd, standing, 'nothing');
      standing = otherThan(standing);
      process = next;
      await have(etcd, values[standing]);
      await sleep(1_000);
      await wereNeverAway(etcd, staying);
    }
    await process.stop();
    await isEmpty(etcd);
  });

  it('one is killed while it starts, time after time, beside the other', async (context) => {
    const { etcd, start } = await two(context);
    const random = createRandom(seed);
    const process = await start('one');
    await have(etcd, values.one);
    const staying = await madeAt(etcd);
    for (let round = 0; round < 6; round += 1) {
      const killed = await start('other');
      await sleep(random.below(2_000));
      await killed.kill();
    }
    await claims(etcd, 'other', 'nothing');
    await have(etcd, values.one);
    await sleep(1_000);
    await wereNeverAway(etcd, staying);
    await process.stop();
    await isEmpty(etcd);
  });
});
