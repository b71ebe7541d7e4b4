/**
 * Clients on three hosts read, write and swap one register in the etcd of the plugin, while the host that leads meets one
 * fault after the other. REGISTER_SEED repeats the faults in their order.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  admin,
  closeAll,
  formationOf,
  initCluster,
  joinCluster,
  startHosts,
  waitForFormation,
  waitForVoters,
} from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { flaps, leaderAmong, leaderMeets, type MemberFault, runsOneOf } from '../support/member-faults.js';
import { createRegister, entriesOf, type Register } from '../support/register.js';
import { unexplained } from '../support/register-history.js';
import { createRandom } from '../soak/random.js';

const seed = Number(process.env['REGISTER_SEED'] ?? Date.now() % 1_000_000);
const random = createRandom(seed);
const PREFIX = '/register-test/';
/** Longer than any of the faults that pass. */
const GRACE_MS = 40_000;

let hosts: LabHost[];
let voters: LabHost[];
let spare: LabHost;
let register: Register;

beforeAll(async () => {
  console.log(`REGISTER_SEED=${String(seed)}`);
  hosts = await startHosts(['reg-a', 'reg-b', 'reg-c', 'reg-d'], {
    MEMBER_GRACE: `${String(GRACE_MS / 1000)}s`,
  });
  const token = await initCluster(hosts[0]!);
  for (const host of hosts.slice(1)) await joinCluster(host, token);
  const { members } = await waitForVoters(hosts[0]!, 3);
  voters = hosts.filter((host) => runsOneOf(host, members));
  [spare] = hosts.filter((host) => !voters.includes(host)) as [LabHost];
  register = createRegister(
    PREFIX,
    hosts.map(({ address }) => `https://${address}:23790`),
  );
  for (const host of voters) register.start(host);
  await register.goesOn(voters);
}, 600_000);

afterAll(() => closeAll(hosts));

const ids = async () => (await formationOf(spare)).members.map(({ id }) => id).toSorted();

test('flaps shorter than the grace stop no writes of the others, and are no reason for another member', async () => {
  const before = await ids();
  const left = [...flaps];
  while (left.length > 0) {
    const [fault] = left.splice(random.below(left.length), 1) as [MemberFault];
    await leaderMeets(fault, { voters, watcher: spare, register, leastMs: 5000 + random.below(3000) });
  }
  expect(await ids()).toEqual(before);
}, 900_000);

test('a host that loses its power while it leads is replaced, and writes go on all the time', async () => {
  const gone = await leaderAmong(voters);
  const others = voters.filter((host) => host !== gone);
  await gone.powerOff();
  const replaced = waitForFormation(spare, 'it votes', ({ role }) => role === 'voter', 240_000);
  await register.goesOn(others);
  await replaced;
  await register.goesOn(others);
  await waitForVoters(spare, 3, 120_000);
  await gone.powerOn();
  await waitForFormation(gone, 'it is a spare', ({ role }) => role === 'spare', 180_000);
  register.start(gone);
  await register.goesOn(voters);
  await waitForVoters(spare, 3, 120_000);
}, 900_000);

test('some order explains all that the clients saw, and each acknowledged write is there, once', async () => {
  await register.stop();
  const { calls, failed, reasons } = register.history();
  const count = (outcome: string) => calls.filter((call) => call.outcome === outcome).length;
  console.log(
    `REGISTER_SEED=${String(seed)}: ${String(calls.length)} calls, ${String(count('unknown'))} in doubt, ` +
      `${String(failed.length)} failed:\n${[...reasons].map(([why, times]) => `${String(times)} ${why}`).join('\n')}`,
  );
  expect(count('ok')).toBeGreaterThan(1000);
  expect(unexplained(calls), `REGISTER_SEED=${String(seed)}`).toBeNull();
  const entries = await entriesOf(spare, `${PREFIX}log/`);
  const values = new Set(entries.map(({ value }) => value));
  const written = calls.filter(
    ({ client, kind, outcome }) => kind !== 'read' && outcome === 'ok' && client.endsWith('.2'),
  );
  expect(written.length).toBeGreaterThan(200);
  expect(written.filter(({ value }) => !values.has(value ?? ''))).toEqual([]);
  expect(failed.filter((value) => values.has(value))).toEqual([]);
  expect(entries.filter(({ created, modified }) => created !== modified)).toEqual([]);
});

test('nothing is left to do', async () => {
  const { problem, doing } = await formationOf(spare);
  expect({ problem, doing }).toEqual({ problem: null, doing: null });
  await expect(admin(voters[0]!, 'GET', '/v1/health')).resolves.toBeDefined();
});
