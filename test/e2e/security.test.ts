import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost, LabProcess } from '../support/lab.js';
import {
  askAdmin,
  createVolume,
  driverCall,
  driverSocket,
  exchange,
  inside,
  processesNamed,
  recordsOf,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  type Status,
  tidy,
  tryOn,
} from '../support/product.js';

let host: LabHost;
/** What must not be seen anywhere, by what it is; filled while secrets are made, as most live shortly. */
const secrets = new Map<string, string>();
/** Answers and error texts that users were given. */
const told: string[] = [];

const state = (...parts: string[]) => join(host.lib, 'openebs', ...parts);

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

const namesIn = (directory: string) => (existsSync(directory) ? readdirSync(directory) : []);
/** A line in the middle of a key: it stands in no other file, and needs no escaping in any. */
const lineOf = (pem: string) => pem.split('\n')[2] ?? '';

/** Notes every secret that is on the host's disk now. */
function noteSecrets(): void {
  for (const container of namesIn(state('containers'))) {
    for (const file of namesIn(state('containers', container)).filter((name) => name.startsWith('secret'))) {
      const secret = readIfThere(state('containers', container, file));
      if (secret !== '') secrets.set(secret, `${container}/${file}`);
    }
  }
  for (const directory of [state('certificates'), state('containers/openebs-etcd')]) {
    for (const file of namesIn(directory).filter((name) => name.endsWith('.key'))) {
      const line = lineOf(readIfThere(join(directory, file)));
      if (line !== '') secrets.set(line, file);
    }
  }
  const incarnation = readIfThere(state('etcd-incarnation.json'));
  if (incarnation !== '')
    secrets.set((JSON.parse(incarnation) as { token: string }).token, 'the token of etcd');
}

async function notingSecrets<T>(work: Promise<T>): Promise<T> {
  const done = new AbortController();
  const noting = (async () => {
    while (!done.signal.aborted) {
      noteSecrets();
      await sleep(20);
    }
  })();
  try {
    return await work;
  } finally {
    done.abort();
    await noting;
  }
}

function expectNoSecret(where: string, text: string): void {
  const found = [...secrets].filter(([secret]) => text.includes(secret)).map(([, what]) => what);
  expect(found, where).toEqual([]);
}

/** Arguments and environment of all processes, short-lived ones too, until it is stopped. */
const watchProcesses = `
  my %seen; $| = 1; print "watching\\n";
  while (1) {
    for my $directory (glob '/proc/[0-9]*') {
      for my $what ('cmdline', 'environ') {
        open my $file, '<', "$directory/$what" or next;
        local $/; my $text = <$file> // ''; close $file;
        next if $seen{$text}++; $text =~ tr/\\0\\n/  /; print "$what $text\\n";
      }
    }
    select undef, undef, undef, 0.005;
  }`;

async function startWatching(): Promise<LabProcess> {
  const watching = host.spawn('perl', ['-e', watchProcesses]);
  await waitFor('processes are watched', () => watching.output().includes('watching'));
  return watching;
}

/** Files below the directories that hold a secret, as root or as nobody would find them. */
async function filesWithSecrets(who: 'root' | 'nobody', ...directories: string[]): Promise<string[]> {
  const become = who === 'root' ? '' : 'setpriv --reuid=65534 --regid=65534 --clear-groups';
  const grep = `${become} grep -rlsaF -D skip --exclude-dir=merged -f - ${directories.join(' ')} || true`;
  const found = await host.shellOk(grep, { input: [...secrets.keys()].join('\n'), timeoutMs: 120_000 });
  return found.split('\n').filter((file) => file !== '');
}

const asNobody = (script: string) =>
  host.shell(`exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '${script}'`);

beforeAll(async () => {
  host = await startProductHost({ name: 'security' }, { LOG_LEVEL: 'debug' });
});

afterEach(async () => {
  await tidy(host);
});

afterAll(async () => {
  await host.close();
});

async function everythingDockerTells(): Promise<string> {
  const list = async (...args: string[]) =>
    (await host.ok(...args)).split('\n').filter((line) => line !== '');
  const containers = await list('ps', '-aq');
  const texts = [
    await host.ok('inspect', ...containers),
    await host.ok('volume', 'inspect', ...(await list('volume', 'ls', '-q'))),
    await host.ok('plugin', 'inspect', 'openebs'),
    await host.ok('image', 'inspect', ...(await list('images', '-q'))),
    await host.ok('info'),
    await host.ok('system', 'events', '--since', '1h', '--until', '0s'),
  ];
  for (const container of containers) {
    const { stdout, stderr } = await host.docker('logs', container);
    texts.push(stdout, stderr);
  }
  return texts.join('\n');
}

/** Keys and values that etcd holds below a prefix, past the plugin, which redacts. */
async function rawRecords(prefix: string): Promise<string> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const query = JSON.stringify({ key: base64(prefix), range_end: base64(`${prefix.slice(0, -1)}0`) });
  const certificates = '/var/lib/openebs/certificates';
  const answer = await host.shellOk(
    `curl -sS --cacert ${certificates}/ca.crt --cert ${certificates}/client.crt --key ${certificates}/client.key ` +
      '-d @- https://127.0.0.1:23790/v3/kv/range',
    { input: query },
  );
  const { kvs = [] } = JSON.parse(answer) as { kvs?: { key: string; value: string }[] };
  const text = (encoded: string) => Buffer.from(encoded, 'base64').toString();
  return kvs.map(({ key, value }) => `${text(key)} ${text(value)}`).join('\n');
}

/** What the registrator writes, and what is there of us for sure: a search in nothing would find nothing. */
async function expectNoSecretRegistered(): Promise<void> {
  const { iqn } = await statusOf(host, 'ext');
  const written: Record<string, string> = {
    objects: 'openebs-initiator-',
    services: ':18080',
    vsms: iqn,
    registry: encodeURIComponent('/openebs/vsms/ext'),
    nodes: '"',
  };
  for (const [directory, certain] of Object.entries(written)) {
    const text = await waitFor(`${directory} has ${certain}`, async () => {
      const now = await rawRecords(`/openebs/${directory}/`);
      if (now.includes(certain)) return now;
      throw new Error(now);
    });
    expectNoSecret(`/openebs/${directory}/`, text);
  }
  const answers = { '/metrics': 'openebs_', '/v1/registry': 'vsm', '/v1/events': 'openebs-initiator-' };
  for (const [path, certain] of Object.entries(answers)) {
    const text = await askAdmin(host, path);
    expect(text).toContain(certain);
    expectNoSecret(path, text);
  }
}

/** Puts another file system into a volume that is not mounted, of what the script makes in the folder image. */
const spoil = ({ id }: Status, make: string) =>
  host.shellOk(
    `cd /run && rm -rf image && mkdir image && ${make} && ` +
      `mkfs.ext4 -qF -d image /var/lib/openebs/pools/default/${id}/disk.img && rm -r image`,
  );

async function useVolumes(): Promise<void> {
  await createVolume(host, 'ext', { size: '64M' });
  await createVolume(host, 'xfs', { size: '320M', fs: 'xfs', mkfs: '-L secretless', mount: 'noatime' });
  await startIdle(host, 'user', 'ext');
  await runOn(host, 'xfs', 'echo x > /data/x');
  await host.ok('rm', '-f', 'user');
  await startIdle(host, 'user', 'ext');
  await host.ok('run', '-d', '--name', 'service', '-p', '18080:80', '-v', 'ext:/data', 'lab');
  // A mount that fails, with all that is then said about it.
  await createVolume(host, 'bad', { size: '64M' });
  await runOn(host, 'bad', 'true');
  await spoil(await statusOf(host, 'bad'), 'touch image/data');
  const failed = await tryOn(host, 'bad', 'true');
  expect(failed.code).not.toBe(0);
  told.push(failed.stderr, JSON.stringify(await statusOf(host, 'bad')));
  told.push((await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=1', 'ext')).stderr);
  told.push((await host.docker('volume', 'rm', 'ext')).stderr);
}

test('no secret is seen by anybody but root in its own files, whatever volumes go through', async () => {
  const watching = await startWatching();
  await notingSecrets(useVolumes());
  told.push(JSON.stringify(await recordsOf(host)));
  for (const path of ['/v1/health', '/v1/volumes', '/v1/records?prefix=/openebs/attachments/', '/v1/none']) {
    told.push((await exchange(join(host.run, 'openebs/admin.sock'), 'GET', path))[1]);
  }
  for (const method of ['Get', 'List', 'Path', 'Capabilities']) {
    told.push(JSON.stringify(await driverCall(host, method, { Name: 'ext' })));
  }
  // CHAP of at least three attachments on both of their sides, four keys, the token.
  expect(secrets.size).toBeGreaterThanOrEqual(8);
  expect(await rawRecords('/openebs/attachments/')).toContain('chapSecret');

  await watching.stop().catch(() => undefined);
  // Not mkfs or losetup: on a busy machine they can be over between two looks.
  expect(watching.output()).toContain('qemu-storage-daemon');
  expect(watching.output()).toContain('/spec/etcd.json');
  expectNoSecret('arguments and environment', watching.output());
  expectNoSecret("the engine's and the plugin's log", host.log());
  expect(host.log()).toContain('step');
  expectNoSecret('what docker tells', await everythingDockerTells());
  expectNoSecret('what users are told', told.join('\n'));
  expectNoSecret('the journal of events', await rawRecords('/openebs/events/'));
  await expectNoSecretRegistered();

  const holders = await filesWithSecrets('root', '/var/lib', '/run', '/etc/docker');
  expect(holders).toContain('/var/lib/openebs/certificates/ca.key');
  const allowed =
    /^\/var\/lib\/openebs\/(certificates\/[a-z]+\.key|etcd-incarnation\.json|etcd\/member\/.*|cache\/records\.json|containers\/openebs-(target|initiator)-v[a-z0-9]{9}\/secret(-\d+)?|containers\/openebs-etcd\/([a-z]+\.key|etcd\.json))$/;
  expect(holders.filter((file) => !allowed.test(file))).toEqual([]);
  for (const file of holders) {
    const { mode, uid } = statSync(join(host.lib, file.slice('/var/lib'.length)));
    expect([file, (mode & 0o777).toString(8), uid]).toEqual([file, '600', 0]);
  }
  expect(await filesWithSecrets('nobody', '/var/lib', '/run', '/etc/docker')).toEqual([]);
  expect(await host.shellOk('find /var/lib /run -xdev -name "core*" -type f -size +100k || true')).toBe('');
});

test('sockets are for root alone, and so is everything below the directories of the product', async () => {
  await createVolume(host, 'db', { size: '64M' });
  await startIdle(host, 'user', 'db', '--user', '0');
  await inside(host, 'user', 'cp /bin/sh /data/sh && chmod 4755 /data/sh && mkdir -m 777 /data/open');
  const { id } = await statusOf(host, 'db');
  const sockets = [
    (await driverSocket(host)).replace(host.run, '/run'),
    '/run/openebs/admin.sock',
    `/var/lib/openebs/containers/openebs-target-${id}/ctl`,
    `/var/lib/openebs/containers/openebs-initiator-${id}/ctl`,
    '/var/lib/openebs/containers/openebs-etcd/ctl',
  ];
  for (const socket of sockets) {
    expect(await host.shellOk(`stat -c '%F %a %u:%g' '${socket}'`)).toBe('socket 600 0:0');
    expect((await host.shell(`curl -sS -m 2 --unix-socket '${socket}' http://x/`)).stderr).not.toMatch(
      /denied/,
    );
    const refused = await asNobody(`curl -sS -m 2 --unix-socket ${socket} http://x/`);
    expect(refused.code, socket).not.toBe(0);
  }
  const open = await host.shellOk('find /var/lib/openebs /run/openebs -perm /077 ! -type l -print || true');
  expect(open).toBe('');
  // A set-uid program that a container leaves in its volume is out of reach for the users of the host.
  const mountpoint = await host.shellOk(`grep -F '/${id} ' /proc/mounts | cut -d' ' -f2 | tail -n 1`);
  expect(await host.shellOk(`stat -c %a ${mountpoint}/data/sh`)).toBe('4755');
  expect((await asNobody(`ls ${mountpoint}/data ${mountpoint}`)).code).not.toBe(0);
});

test('a data directory that was made before, open for all, is closed at the start', async () => {
  chmodSync(state(), 0o755);
  chmodSync(state('containers'), 0o755);
  chmodSync(join(host.run, 'openebs'), 0o755);
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor('the start has closed them', async () => {
    await recordsOf(host);
    return [state(), state('containers'), join(host.run, 'openebs')].every(
      (directory) => (statSync(directory).mode & 0o777) === 0o700,
    );
  });
});

test('etcd answers nobody without a certificate of its own authority', async () => {
  await createVolume(host, 'db', { size: '64M' });
  const certificates = '/var/lib/openebs/certificates';
  const range = '-d {} https://127.0.0.1:23790/v3/kv/range';
  const query = JSON.stringify({ key: Buffer.from('/openebs/').toString('base64') });
  const withOwn = await host.shell(
    `curl -sS --cacert ${certificates}/ca.crt --cert ${certificates}/client.crt --key ${certificates}/client.key -d @- https://127.0.0.1:23790/v3/kv/range`,
    { input: query },
  );
  expect(withOwn.stdout).toContain('"header"');
  await host.shellOk(
    'cd /run && openssl req -x509 -newkey rsa:2048 -nodes -keyout o.key -out o.crt -days 1 -subj /CN=openebs 2>/dev/null; chmod 644 o.key',
  );
  for (const how of [
    '',
    '--cert /run/o.crt --key /run/o.key',
    `--cert ${certificates}/client.crt --key ${certificates}/client.key`,
  ]) {
    for (const port of ['23790', '23791']) {
      const refused = await asNobody(`curl -ksS -m 5 ${how} ${range.replace('23790', port)}`);
      expect([how, port, refused.code === 0, refused.stdout]).toEqual([how, port, false, '']);
    }
    expect((await asNobody(`curl -sS -m 5 ${how} http://127.0.0.1:23790/v3/kv/range`)).stdout).not.toContain(
      'kvs',
    );
  }
});

interface Account {
  readonly initiator: string;
  readonly user: string;
  readonly secret: string;
}

/** Who is admitted to the volume now; undefined when nobody is. */
function admittedTo({ id }: Status): Account | undefined {
  const directory = state('containers', `openebs-target-${id}`);
  const match = /^admit (\S+) (\S+) (\S+)$/m.exec(readFileSync(join(directory, 'spec'), 'utf8'));
  if (!match) return undefined;
  const [, initiator = '', user = '', file = ''] = match;
  return { initiator, user, secret: readFileSync(join(directory, file), 'utf8') };
}

/** Tries to open the LUN as this account, as a foreign program would; true when it gets it. */
async function opens(status: Status, { initiator, user, secret }: Account): Promise<boolean> {
  writeFileSync(join(host.run, 'given'), secret, { mode: 0o600 });
  const object = secret === '' ? '' : '--object secret,id=s,file=/run/given';
  const login = secret === '' ? '' : `,user=${user},password-secret=s`;
  const image = `driver=iscsi,transport=tcp,portal=${status.target},target=${status.iqn},lun=1,initiator-name=${initiator}${login}`;
  const { code } = await host.shell(`timeout 20 qemu-img info -U ${object} --image-opts ${image}`);
  return code === 0;
}

const foreign = 'iqn.2016-09.com.openebs:node-000000000000';

test('a foreign initiator gets nothing, attached or not, and disturbs no session in use', async () => {
  await createVolume(host, 'db', { size: '64M' });
  const ls = async (initiator: string) => {
    const { target } = await statusOf(host, 'db');
    return (await host.shell(`timeout 20 iscsi-ls -s -i ${initiator} iscsi://${target}`)).stdout;
  };
  const detached = await statusOf(host, 'db');
  expect(admittedTo(detached)).toBeUndefined();
  expect(await opens(detached, { initiator: foreign, user: '', secret: '' })).toBe(false);
  expect(await ls(foreign)).toBe('');

  await startIdle(host, 'first', 'db');
  const old = admittedTo(detached)!;
  expect(await ls(old.initiator)).not.toContain('Lun:');
  await host.ok('rm', '-f', 'first');
  await waitFor('nobody is admitted', () => admittedTo(detached) === undefined);
  expect(await opens(detached, old)).toBe(false);
  expect(await ls(old.initiator)).toBe('');

  const writer = await startWriter(host, 'writer', 'db');
  await writer.goesOn(1);
  const status = await statusOf(host, 'db');
  const now = admittedTo(status)!;
  expect(now.secret).not.toBe(old.secret);
  const tries: Record<string, Account> = {
    'another name without a secret': { initiator: foreign, user: '', secret: '' },
    'the right name without a secret': { ...now, secret: '' },
    'the right secret under another name': { ...now, initiator: foreign },
    'the right name with a wrong secret': { ...now, secret: `${now.secret.slice(0, -1)}!` },
    'the right name and secret of another account': { ...now, user: 'v000000000-1' },
    'the account of the attachment before': { ...old, initiator: now.initiator },
  };
  for (const [what, account] of Object.entries(tries))
    expect([what, await opens(status, account)]).toEqual([what, false]);
  expect(await ls(foreign)).toBe('');
  expect(await ls(now.initiator)).not.toContain('Lun:');
  expect(await opens(status, now)).toBe(true);
  await writer.goesOn(1);
  await writer.finish();
});

test('a login that was held back is not finished after the admission has changed', async () => {
  await createVolume(host, 'db', { size: '64M' });
  await startIdle(host, 'user', 'db');
  const status = await statusOf(host, 'db');
  const account = admittedTo(status)!;
  writeFileSync(join(host.run, 'given'), account.secret, { mode: 0o600 });
  const port = status.target.split(':').at(-1) ?? '';
  const start = (go: string) =>
    host.spawn(process.execPath, [
      join(import.meta.dirname, '../support/half-login.ts'),
      ...[port, status.iqn, account.initiator, account.user, '/run/given', go],
    ]);
  const early = start('/run/openebs/admin.sock');
  expect(await early.ended.then(() => early.output())).toMatch(/held\nwritten\n$/);
  const late = start('/run/go');
  await waitFor('the login is held', () => late.output().includes('held'));
  await host.ok('rm', '-f', 'user');
  await waitFor('nobody is admitted', () => admittedTo(status) === undefined);
  await waitFor('the target has applied it', async () => (await statusOf(host, 'db')).attachedTo === '');
  writeFileSync(join(host.run, 'go'), '');
  await late.ended;
  expect(late.output()).toMatch(/held\n(cut|refused)\n$/);
});

/** Connects many times to each port, sends garbage on some, and holds on. */
const flood = `
  const { connect } = require('node:net');
  const { randomBytes } = require('node:crypto');
  let up = 0, gone = 0;
  for (const port of process.argv.slice(1)) for (let i = 0; i < 1500; i++) {
    const socket = connect(Number(port), '127.0.0.1', () => {
      up++;
      if (i % 3 === 0) socket.write(randomBytes(1 + i * 7));
      if (i % 3 === 1) socket.write(Buffer.concat([Buffer.from([0x43, 0x87, 0, 0, 0, 0xff, 0xff, 0xff]), randomBytes(40)]));
    });
    socket.on('error', () => gone++); socket.on('close', () => gone++);
  }
  setInterval(() => console.log('up', up, 'gone', gone), 200);`;

test('garbage and a flood of connections on its port do not stop a target', async () => {
  await createVolume(host, 'db', { size: '64M' });
  const writer = await startWriter(host, 'writer', 'db');
  await writer.goesOn(1);
  const target = `openebs-target-${(await statusOf(host, 'db')).id}`;
  const started = () => host.ok('inspect', '--format', '{{.State.StartedAt}} {{.RestartCount}}', target);
  const before = await started();
  const port = (await statusOf(host, 'db')).target.split(':').at(-1) ?? '';
  const flooding = host.spawn(process.execPath, ['-e', flood, port, '23790']);
  await waitFor('the connections are there', () => /up (\d{4})/.test(flooding.output()));
  await writer.goesOn(1);
  await writer.finish();
  await host.ok('rm', '-f', 'writer');
  await createVolume(host, 'other', { size: '64M' });
  expect(await runOn(host, 'other', 'echo works')).toBe('works');
  expect(await runOn(host, 'db', 'echo works')).toBe('works');
  expect(await started()).toBe(before);
  await flooding.stop().catch(() => undefined);
  expect(await runOn(host, 'db', 'echo works')).toBe('works');
});

describe('a disk image of somebody else', () => {
  test.each([
    ['a link in the place of its directory', 'ln -s /host/var/lib/victim image/data'],
    ['a link in the place of the directory to come', 'ln -s /host/var/lib/victim image/data.new'],
    ['a file in the place of its directory', 'touch image/data'],
  ])('with %s is not handed out, and nothing of the host is touched', async (_what, make) => {
    const victim = join(host.lib, 'victim');
    mkdirSync(victim, { recursive: true });
    chmodSync(victim, 0o711);
    await createVolume(host, 'db', { size: '64M', uid: '1234', gid: '1234', mode: '0777' });
    await runOn(host, 'db', 'echo mine > /data/mine');
    const status = await statusOf(host, 'db');
    await spoil(status, make);
    const refused = await tryOn(host, 'db', 'ls -la /data');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/data(\.new)? at the root of the volume's file system is not a directory/);
    const { mode, uid } = statSync(victim);
    expect([(mode & 0o777).toString(8), uid]).toEqual(['711', 0]);
    expect(await host.shellOk(`grep -c '/${status.id} ' /proc/mounts || true`)).toBe('0');
  });
});

/** Bits of /proc/PID/status (capabilities(7)). */
const capabilityBits = { CAP_SYS_ADMIN: 21n };
const mask = (...names: (keyof typeof capabilityBits)[]) =>
  names.reduce((sum, name) => sum | (1n << capabilityBits[name]), 0n);

interface Inspected {
  readonly State: { readonly Pid: number };
  readonly HostConfig: Readonly<Record<string, unknown>>;
  readonly Mounts: readonly {
    readonly Type: string;
    readonly Source: string;
    readonly Destination: string;
  }[];
}

/** All that is mounted from outside, however it was asked for; what is no bind shows its type. */
const bindsOf = ({ Mounts, HostConfig }: Inspected) =>
  [
    ...Mounts.map(
      ({ Type, Source, Destination }) => `${Type === 'bind' ? '' : `${Type} `}${Source} ${Destination}`,
    ),
    ...((HostConfig['Binds'] as string[] | null) ?? []),
  ].sort();

/** Newer engines write the prefix of a capability. */
const addedTo = ({ HostConfig }: Inspected) =>
  mask(
    ...((HostConfig['CapAdd'] as string[] | null) ?? []).map(
      (name) => `CAP_${name.replace(/^CAP_/, '')}` as keyof typeof capabilityBits,
    ),
  );

test('the containers run with the privileges that README lists, and no others', async () => {
  await createVolume(host, 'db', { size: '64M' });
  await startIdle(host, 'user', 'db');
  const { id } = await statusOf(host, 'db');
  const wanted = [
    {
      container: `openebs-target-${id}`,
      processes: ['tgtd'],
      capabilities: mask(),
      devices: [],
      rules: [],
      binds: [`/var/lib/openebs/pools/default/${id} /pool`],
      options: [],
    },
    {
      container: 'openebs-etcd',
      processes: ['etcd'],
      capabilities: mask(),
      devices: [],
      rules: [],
      binds: ['/var/lib/openebs/etcd /data'],
      options: [],
    },
    {
      container: `openebs-initiator-${id}`,
      processes: ['qemu-storage-daemon'],
      capabilities: mask('CAP_SYS_ADMIN'),
      devices: ['/dev/fuse', '/dev/loop-control'],
      rules: ['b 7:* rwm'],
      binds: ['/dev /dev'],
      options: ['apparmor=unconfined'],
    },
  ];
  for (const { container, processes, capabilities, devices, rules, binds, options } of wanted) {
    const [inspected] = JSON.parse(await host.ok('inspect', container)) as Inspected[];
    const config = inspected!.HostConfig;
    expect(config).toMatchObject({
      Privileged: false,
      ReadonlyRootfs: true,
      PidsLimit: 1024,
      CapDrop: ['ALL'],
      NetworkMode: 'host',
      UsernsMode: 'host',
      PidMode: '',
      IpcMode: 'private',
      SecurityOpt: [...options, 'label=disable', 'no-new-privileges'],
      Ulimits: [{ Name: 'core', Hard: 0, Soft: 0 }],
    });
    expect(((config['Devices'] as { PathOnHost: string }[] | null) ?? []).map((d) => d.PathOnHost)).toEqual(
      devices,
    );
    expect(config['DeviceCgroupRules'] ?? []).toEqual(rules);
    expect(bindsOf(inspected!)).toEqual([`/var/lib/openebs/containers/${container} /spec`, ...binds].sort());
    expect(addedTo(inspected!)).toBe(capabilities);
    const [daemon = ''] = await processesNamed(host, ...processes);
    for (const pid of [String(inspected!.State.Pid), daemon.split(' ')[0] ?? '']) {
      const status = await host.shellOk(`cat /proc/${pid}/status`);
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
        const found = BigInt(`0x${new RegExp(`^${set}:\\s*(\\w+)$`, 'm').exec(status)?.[1] ?? ''}`);
        expect([container, set, found & ~capabilities]).toEqual([container, set, 0n]);
      }
      expect(status).toMatch(/^NoNewPrivs:\s*1$/m);
      expect(status).toMatch(/^Seccomp:\s*2$/m);
    }
    expect((await host.docker('exec', container, 'touch', '/usr/written')).stderr).toMatch(/read-only/i);
  }
});

test('the initiator cannot do without its one capability', async () => {
  await createVolume(host, 'db', { size: '64M' });
  await startIdle(host, 'user', 'db');
  const { id } = await statusOf(host, 'db');
  const image = await host.ok('inspect', '--format', '{{.Config.Image}}', `openebs-initiator-${id}`);
  const tried = await host.docker(
    ...['run', '--rm', '--network', 'none', '--cap-drop', 'ALL', '--device', '/dev/fuse'],
    ...['--security-opt', 'apparmor=unconfined', '--entrypoint', 'sh', image, '-c'],
    'truncate -s 1M /tmp/d; : >/tmp/m; timeout 5 qemu-storage-daemon --blockdev driver=file,node-name=n,filename=/tmp/d ' +
      '--export type=fuse,id=e,node-name=n,mountpoint=/tmp/m',
  );
  expect(tried.stderr).toMatch(/fuse.*(mount|permitted|failed)|mount.*(permitted|failed)/i);
});

test('floods, endless bodies and half requests on its sockets leave the driver small and alive', async () => {
  await createVolume(host, 'db', { size: '64M' });
  const pid = await host.pluginPid();
  const memoryMb = async () =>
    Number(/VmRSS:\s*(\d+)/.exec(await host.shellOk(`cat /proc/${String(pid)}/status`))?.[1] ?? 'NaN') / 1024;
  const before = await memoryMb();
  const folder = await driverSocket(host);
  const script = `
    const { connect } = require('node:net');
    let up = 0, ended = 0;
    // The queue of a socket is short: who finds it full comes again.
    const open = (say) => {
      let connected = false;
      const s = connect(process.argv[1], () => { connected = true; up++; say(s); });
      s.on('error', () => undefined).on('close', () => connected ? ended++ : setTimeout(open, 50, say)).resume();
    };
    const post = 'POST /VolumeDriver.Get HTTP/1.1\\r\\nHost: x\\r\\n';
    for (let i = 0; i < 8000; i++) open(() => undefined);
    for (let i = 0; i < 1500; i++) open((s) => s.write(post + 'X-A: ' + 'a'.repeat(4000)));
    for (let i = 0; i < 100; i++) open((s) => s.write(post + 'X-A: ' + 'a'.repeat(100000) + '\\r\\n\\r\\n'));
    const chunk = Buffer.concat([Buffer.from('10000\\r\\n'), Buffer.alloc(65536, 32), Buffer.from('\\r\\n')]);
    for (let i = 0; i < 20; i++) open((s) => {
      s.write(post + 'Transfer-Encoding: chunked\\r\\n\\r\\n');
      let sent = 0; const more = () => { while (sent++ < 3000 && !s.destroyed) if (!s.write(chunk)) return s.once('drain', more); }; more();
    });
    setInterval(() => console.log('up', up, 'ended', ended), 200);`;
  const flooding = host.spawn('sh', [
    '-c',
    'ulimit -n 12000; exec "$0" "$@"',
    process.execPath,
    '-e',
    script,
    folder.replace(host.run, '/run'),
  ]);
  await waitFor(
    'ten thousand connections are there or refused',
    () => /up (9[5-9]\d\d)/.test(flooding.output()),
    {
      timeoutMs: 60_000,
    },
  ).catch((reason: unknown) => {
    throw new Error(`${String(reason)}: ${flooding.output().slice(-300)}`);
  });
  // Docker comes again as well when it finds the queue full.
  let answer: unknown;
  await waitFor(
    'a call gets through',
    async () => {
      answer = await driverCall(host, 'Get', { Name: 'db' }).catch(() => undefined);
      return answer !== undefined;
    },
    { timeoutMs: 30_000 },
  );
  expect(answer).toMatchObject({ Err: '' });
  const during = await memoryMb();
  expect(await runOn(host, 'db', 'echo works')).toBe('works');
  await flooding.stop().catch(() => undefined);
  console.log(
    `memory of the plugin: ${before.toFixed(0)} MB, with 9,600 connections ${during.toFixed(0)} MB`,
  );
  expect(during - before).toBeLessThan(400);
  expect(await host.pluginPid()).toBe(pid);
  expect(await driverCall(host, 'Capabilities', {})).toMatchObject({ Capabilities: { Scope: 'global' } });
});

test('the password for an etcd of the user is in its own file alone', async () => {
  const password = 'Pa55-of-the-other-etcd';
  const data = '/var/lib/other-etcd';
  await host.shellOk(`mkdir -m 700 ${data}`);
  const urls = [
    '--listen-client-urls',
    'http://127.0.0.1:2379',
    '--advertise-client-urls',
    'http://127.0.0.1:2379',
  ];
  const etcd = host.spawn('etcd', [
    '--data-dir',
    data,
    '--listen-peer-urls',
    'http://127.0.0.1:2380',
    ...urls,
  ]);
  const ask = (path: string, body: unknown) =>
    host.shellOk(`curl -sSf -d @- http://127.0.0.1:2379/v3/${path}`, { input: JSON.stringify(body) });
  await waitFor('the other etcd serves', async () => (await ask('maintenance/status', {})) !== '');
  await ask('auth/user/add', { name: 'root', password });
  await ask('auth/role/add', { name: 'root' });
  await ask('auth/user/grant', { user: 'root', role: 'root' });
  await ask('auth/enable', {});
  mkdirSync(join(host.lib, 'openebs-settings'), { mode: 0o755 });
  writeFileSync(join(host.lib, 'openebs-settings/password'), `${password}\n`, { mode: 0o600 });
  secrets.clear();
  secrets.set(password, 'the password');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  const settings = ['ETCD_ENDPOINTS=http://127.0.0.1:2379', 'ETCD_USER=root'];
  await host.ok(
    'plugin',
    'set',
    'openebs',
    ...settings,
    'ETCD_PASSWORD_FILE=/var/lib/openebs-settings/password',
  );
  const watching = await startWatching();
  await host.ok('plugin', 'enable', 'openebs');
  await createVolume(host, 'db', { size: '64M' });
  expect(await runOn(host, 'db', 'echo works')).toBe('works');
  await watching.stop().catch(() => undefined);
  expectNoSecret('arguments and environment', watching.output());
  expectNoSecret('the log', host.log());
  expectNoSecret('what docker tells', await everythingDockerTells());
  for (const path of ['/v1/health', '/v1/registry', '/metrics'])
    expectNoSecret(path, await askAdmin(host, path));
  expect(
    await filesWithSecrets(
      'root',
      '/var/lib/openebs',
      '/var/lib/openebs-settings',
      '/var/lib/docker',
      '/run',
    ),
  ).toEqual(['/var/lib/openebs-settings/password']);
  await tidy(host);
  await etcd.stop().catch(() => undefined);
});
