/**
 * `make soak MINUTES=20 SEED=1`: a database, writers of checksummed blocks on each file system and fio with
 * verification, under a random mix of faults. After each fault every workload must go on, and whatever it has
 * acknowledged must be there; at the end the file systems are clean and nothing has grown.
 */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { failure, sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { startProductHost, statusOf } from '../support/product.js';
import { startBlocks } from './blocks.js';
import { startDatabase } from './database.js';
import { churnFor } from './churn.js';
import { type Fault, faults, pool } from './faults.js';
import { type Figures, figuresOf, figureTable, leaks } from './figures.js';
import { importSoakImage } from './image.js';
import { startLoad } from './load.js';
import { createRandom, pick } from './random.js';
import { isRunning, type Workload } from './workload.js';

const minutes = Number(process.env['MINUTES'] ?? '20');
const seed = Number(process.env['SEED'] ?? String(Date.now() % 1_000_000));
const only = process.env['FAULTS']?.split(',');
const random = createRandom(seed);
const chosen = only ? faults.filter(({ name }) => only.some((part) => name.includes(part))) : faults;
const results = 'build/soak';
const history: string[] = [];
const counts = new Map<string, number>();
/** Containers that had to be started by hand, with the fault before. */
const hands: string[] = [];
let host: LabHost;
let workloads: Workload[] = [];

function tell(text: string): void {
  const line = `${new Date().toISOString()} ${text}`;
  history.push(line);
  process.stdout.write(`${line}\n`);
}

/** Whose container does not come back by itself is started by hand, and told. */
async function goesOn(workload: Workload, after: string): Promise<void> {
  const before = await workload.acked();
  const began = Date.now();
  let helped = false;
  await waitFor(
    `${workload.name} goes on after: ${after}`,
    async () => {
      if ((await workload.acked()) > before) return true;
      if (!helped && Date.now() - began > 90_000 && !(await isRunning(host, workload.name))) {
        helped = true;
        hands.push(`${workload.name} after ${after}`);
        const started = await host.docker('start', workload.name);
        tell(`${workload.name} does not run: docker start, code ${String(started.code)} ${started.stderr}`);
      }
      return false;
    },
    { timeoutMs: 240_000, everyMs: 500 },
  );
}

/** The processes of all workloads: the same ones after a fault that nobody may notice. */
async function processesOf(): Promise<string> {
  const names = workloads.map(({ name }) => name);
  return host.ok('inspect', '--format', '{{.Name}} {{.State.StartedAt}} {{.RestartCount}}', ...names);
}

async function strike(fault: Fault, volume: string): Promise<void> {
  const before = fault.unnoticed === true ? await processesOf() : '';
  await fault.run(host, volume, random);
  await Promise.all(workloads.map((workload) => goesOn(workload, `${fault.name} (${volume})`)));
  if (fault.unnoticed === true) expect(await processesOf(), `after ${fault.name} (${volume})`).toBe(before);
  for (const workload of workloads) await workload.check();
}

async function keepEvidence(reason: unknown): Promise<void> {
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, 'engine.log'), host.log());
  const asked = ['ps -a', 'volume ls', 'plugin ls'].map(async (command) => {
    const { stdout, stderr } = await host.docker(...command.split(' '));
    return `$ docker ${command}\n${stdout}${stderr}`;
  });
  for (const { name } of workloads) {
    const { stdout, stderr } = await host.docker('logs', '--tail', '40', name);
    asked.push(Promise.resolve(`$ docker logs ${name}\n${stdout}${stderr}`));
    const status = await host.docker('volume', 'inspect', name);
    asked.push(Promise.resolve(`$ docker volume inspect ${name}\n${status.stdout}${status.stderr}`));
  }
  const shell = await host.shell('cat /proc/1/mountinfo; losetup -l; ps -ef').catch(() => null);
  writeFileSync(
    join(results, 'state.txt'),
    [String(reason), ...(await Promise.all(asked)), shell?.stdout ?? ''].join('\n\n'),
  );
  cpSync(join(host.lib, 'openebs/containers'), join(results, 'containers'), {
    recursive: true,
    filter: (path) => !/secret|ctl$/.test(path),
  });
  tell(`what was found is in ${results}`);
}

/** No container on the volumes any more: their file systems must be clean, and consistent in every part. */
async function checkFileSystems(): Promise<void> {
  for (const { name } of workloads) {
    const status = await waitFor(
      `${name} is detached`,
      async () => {
        const now = await statusOf(host, name);
        return now.attachedTo === '' && now;
      },
      { timeoutMs: 60_000 },
    );
    const file = `${pool}/${status.id}/disk.img`;
    const check = {
      ext4: ['e2fsck', '-fn', file],
      xfs: ['xfs_repair', '-n', '-f', file],
      btrfs: ['btrfs', 'check', '--readonly', file],
    }[status.fs];
    const result = await host.shell((check ?? []).join(' '));
    expect(result.code, `${name}: ${failure('the check', result)}`).toBe(0);
  }
  tell('all file systems are consistent');
}

afterAll(async () => {
  await Promise.all(workloads.map((workload) => workload.close()));
  await host.close();
});

async function startHost(): Promise<void> {
  // The pool's disk, mounted at every boot.
  const disk = '/var/lib/pool.img';
  const bootScript = `
    [ -e ${disk} ] || { truncate -s 8G ${disk}; mkfs.ext4 -q ${disk}; }
    mkdir -p ${pool}; mount -o loop ${disk} ${pool}`;
  host = await startProductHost({ name: 'soak', bootScript });
  await importSoakImage(host);
  const idle = 'trap "exit 0" TERM; sleep 1000000 & wait';
  // Two idle containers keep the images when the system is pruned.
  for (const image of ['lab', 'soak']) {
    const how = ['--restart', 'always', '--name', `keep-${image}`, '--network', 'none'];
    await host.ok('run', '-d', ...how, image, 'sh', '-c', idle);
  }
  await churnFor(host, 0);
}

async function startWorkloads(): Promise<void> {
  workloads = [
    await startDatabase(host, 'database'),
    await startBlocks(host, 'blocks-ext4', { size: '400M' }),
    await startBlocks(host, 'blocks-xfs', { size: '400M', fs: 'xfs' }),
    await startBlocks(host, 'blocks-btrfs', { size: '400M', fs: 'btrfs' }),
    await startLoad(host, 'load', { size: '400M' }),
  ];
}

/** Stops all in order, looks at the file systems, and reads everything once more over new devices and mounts. */
async function finish(): Promise<void> {
  const acked = await Promise.all(workloads.map(async (one) => `${one.name} ${String(await one.acked())}`));
  tell(`acknowledged and found: ${acked.join(', ')}`);
  await Promise.all(workloads.map((workload) => workload.close()));
  await Promise.all(workloads.map(({ name }) => host.ok('stop', '-t', '60', name)));
  await checkFileSystems();
  for (const { name } of workloads) await host.ok('start', name);
  for (const workload of workloads) await workload.check();
  for (const { name } of workloads) await host.ok('rm', '-f', name);
  for (const { name } of workloads) await host.ok('volume', 'rm', name);
}

function report(before: Figures, after: Figures): void {
  mkdirSync(results, { recursive: true });
  const figures = { seed, minutes, faults: Object.fromEntries(counts), startedByHand: hands, before, after };
  writeFileSync(join(results, 'soak.json'), `${JSON.stringify(figures, null, 2)}\n`);
  writeFileSync(join(results, 'history.txt'), `${history.join('\n')}\n`);
  process.stdout.write(`${figureTable(before, after)}\n`);
  process.stdout.write(`started by hand: ${hands.length === 0 ? 'none' : hands.join('; ')}\n`);
}

test(`nothing is lost in ${String(minutes)} minutes of faults (seed ${String(seed)})`, async () => {
  await startHost();
  const rest = await figuresOf(host);
  let after: Figures = rest;
  tell(`seed ${String(seed)}, ${String(minutes)} minutes`);
  await startWorkloads();
  try {
    const until = Date.now() + minutes * 60_000;
    for (let round = 1; Date.now() < until; round += 1) {
      const fault = pick(random, chosen);
      const { name: volume } = workloads[random.below(workloads.length)] ?? { name: '' };
      tell(`${String(round)}: ${fault.name} (${volume})`);
      counts.set(fault.name, (counts.get(fault.name) ?? 0) + 1);
      await Promise.all([churnFor(host, round), strike(fault, volume)]);
      await sleep(random.below(2000));
    }
    await finish();
    let grown: string[] = [];
    await waitFor(
      'nothing is left',
      async () => {
        after = await figuresOf(host);
        grown = leaks(rest, after);
        return grown.length === 0;
      },
      { timeoutMs: 60_000, everyMs: 2000 },
    ).catch(() => undefined);
    expect(grown).toEqual([]);
  } catch (reason) {
    await keepEvidence(reason);
    throw reason;
  } finally {
    report(rest, after);
  }
});
