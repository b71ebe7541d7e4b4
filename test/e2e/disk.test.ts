import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  inside,
  installPlugin,
  poolFile,
  runOn,
  startIdle,
  startProductHost,
  statusOf,
  tidy,
  tracesOf,
  tryOn,
} from '../support/product.js';

let host: LabHost;
/** As the host itself names it. */
const hostPool = '/var/lib/openebs/pools/default';

function inSmallPool(sizeMiB: number): Promise<string> {
  return host.shellOk(`mount -o remount,size=${String(sizeMiB)}M /var/lib/openebs/pools/default`);
}

async function whenDetached(volume: string): Promise<string> {
  await waitFor('it is detached', async () => (await statusOf(host, volume)).attachedTo === '', {
    timeoutMs: 60_000,
  });
  return `/var/lib/openebs/pools/default/${(await statusOf(host, volume)).id}/disk.img`;
}

/** A call of etcd's JSON gateway, as root of the host makes it. */
function etcd(call: string, body: Readonly<Record<string, string>>): Promise<string> {
  const encoded = Object.entries(body).map(([name, value]) => [name, Buffer.from(value).toString('base64')]);
  const at = '/var/lib/openebs/certificates';
  return host.shellOk(
    `curl -sS --fail --cacert ${at}/ca.crt --cert ${at}/client.crt --key ${at}/client.key --data @- ` +
      `https://127.0.0.1:23790/v3/kv/${call}`,
    { input: JSON.stringify(Object.fromEntries(encoded)) },
  );
}

describe('a pool that is full', () => {
  beforeAll(async () => {
    host = await startLabHost({ name: 'full', plugin: true });
    mkdirSync(join(host.lib, 'openebs/pools/default'), { recursive: true });
    for (const pool of ['archive', 'aging']) mkdirSync(join(host.lib, 'openebs/pools', pool));
    await host.shellOk(`
      cd /var/lib/openebs/pools
      mount -t tmpfs -o size=400M pool default
      mount -t tmpfs -o ro pool archive
      mount -t tmpfs -o size=200M pool aging`);
    await installPlugin(host);
  });

  afterEach(async () => {
    await tidy(host);
    await host.shellOk(`rm -f ${hostPool}/filler`);
    await inSmallPool(400);
  });

  afterAll(async () => {
    await host.close();
  });

  const fill = 'dd if=/dev/urandom of=/data/big bs=1M count=450 conv=fsync';

  const rewrite = (from: string) =>
    `dd if=${from} of=/data/again bs=1M count=1 iflag=fullblock conv=notrunc,fsync`;

  test.each(['ext4', 'xfs', 'btrfs'])(
    'is a full disk to who writes a volume with %s, keeps what was flushed, and works again with room',
    async (fs) => {
      await createVolume(host, 'thin', { fs, size: '2G' });
      await startIdle(host, 'writer', 'thin');
      await inside(
        host,
        'writer',
        `for i in 1 2 3; do dd if=/dev/urandom of=/data/kept$i bs=1M count=20 conv=fsync 2>/dev/null; done
         sha256sum /data/kept? > /data/sums; : > /data/again; sync /data/sums /data/again`,
      );
      const filled = await host.docker('exec', 'writer', 'sh', '-c', fill);
      expect(filled.stderr).toMatch(/No space left on device/);
      // Its own blocks are there: the volume is no read-only one.
      await inside(host, 'writer', 'echo small > /data/small; sync /data/small; grep -c . /data/small');
      // btrfs gives back what a refused write had begun to use: whatever the pool has now, it stays short of space.
      await host.shellOk(
        `cd ${hostPool}; free=$(df -k --output=avail . | tail -1); [ $free -lt 32768 ] || fallocate -l $((free - 32768))K filler`,
      );
      const early = await host.docker('exec', 'writer', 'sh', '-c', rewrite('/dev/zero'));
      expect(early.stderr).toMatch(/No space left on device/);
      const { error } = await waitFor(
        'Status says so',
        async () => {
          const status = await statusOf(host, 'thin');
          return status.error !== '' && status;
        },
        { timeoutMs: 60_000 },
      );
      expect(error).toMatch(/pool default is full.*free some space/s);
      await inSmallPool(1500);
      await host.shellOk(`rm -f ${hostPool}/filler`);
      // What is flushed in the place of what was refused is there for good, whatever the kernel noted of the failure.
      await inside(host, 'writer', `${rewrite('/dev/urandom')}; sha256sum /data/again > /data/again.sum`);
      await inside(host, 'writer', `${fill}; sha256sum -c /data/sums >&2`);
      await waitFor('Status is clear', async () => (await statusOf(host, 'thin')).error === '', {
        timeoutMs: 60_000,
      });
      await host.ok('rm', '-f', 'writer');
      await runOn(host, 'thin', 'sha256sum -c /data/sums /data/again.sum; cat /data/big > /dev/null');
      const file = await whenDetached('thin');
      const checks: Record<string, string[]> = {
        ext4: ['e2fsck', '-fn', file],
        xfs: ['xfs_repair', '-n', '-f', file],
        btrfs: ['btrfs', 'check', '--readonly', file],
      };
      const [program = '', ...args] = checks[fs] ?? [];
      await host.shellOk([program, ...args].join(' '));
    },
  );

  test('to its last byte turns an ext4 volume read-only, says so, and is cured by a new start', async () => {
    await createVolume(host, 'thin', { size: '2G' });
    await startIdle(host, 'writer', 'thin');
    await inside(
      host,
      'writer',
      'dd if=/dev/urandom of=/data/kept bs=1M count=20 conv=fsync 2>/dev/null; sha256sum /data/kept > /data/sums; sync /data/sums',
    );
    await host.shell('dd if=/dev/zero of=/var/lib/openebs/pools/default/filler bs=1M count=500 2>/dev/null');
    const filled = await host.docker(
      'exec',
      'writer',
      'sh',
      '-c',
      `${fill}; for i in 1 2 3 4 5 6; do mkdir /data/d$i; dd if=/dev/urandom of=/data/d$i/f bs=4k count=64 conv=fsync; done`,
    );
    expect(filled.stderr).toMatch(/No space left|Read-only|Input\/output/);
    const { error } = await waitFor(
      'Status says so',
      async () => {
        const status = await statusOf(host, 'thin');
        return status.error !== '' && status;
      },
      { timeoutMs: 60_000 },
    );
    expect(error).toMatch(/full|read-only/);
    await host.shellOk('rm /var/lib/openebs/pools/default/filler');
    await host.ok('rm', '-f', 'writer');
    expect(await runOn(host, 'thin', 'sha256sum -c /data/sums; echo ok > /data/ok')).toBe('/data/kept: OK');
    await host.shellOk(`e2fsck -fn ${await whenDetached('thin')}`);
  });

  test('that turned read-only under a volume refuses its next mount with the reason, and works when it is writable', async () => {
    const remount = (how: string) => `mount -o remount,${how} /var/lib/openebs/pools/aging`;
    await createVolume(host, 'old', { pool: 'aging', size: '100M' });
    await runOn(host, 'old', 'echo kept > /data/note');
    await waitFor('it is detached', async () => (await statusOf(host, 'old')).attachedTo === '', {
      timeoutMs: 60_000,
    });
    // As after a boot at which the disk was mounted so: no target has the file open yet.
    const target = `openebs-target-${(await statusOf(host, 'old')).id}`;
    await host.shellOk(`docker rm -f ${target}; ${remount('ro')}`);
    const reason = 'disk.img cannot be opened for writing';
    await waitFor('Status says so', async () => (await statusOf(host, 'old')).error.includes(reason), {
      timeoutMs: 60_000,
    });
    const refused = await tryOn(host, 'old', 'true');
    expect(refused.stderr).toContain(reason);
    await host.shellOk(remount('rw'));
    await waitFor('it works', async () => (await statusOf(host, 'old')).error === '', { timeoutMs: 60_000 });
    expect(await runOn(host, 'old', 'cat /data/note')).toBe('kept');
    await host.ok('volume', 'rm', 'old');
  });

  test('or read-only refuses a create with the reason, and leaves nothing of it', async () => {
    await createVolume(host, 'early', { size: '100M' });
    const create = ['volume', 'create', '-d', 'openebs', '-o', 'size=100M', 'late'];
    await host.shellOk(
      'dd if=/dev/zero of=/var/lib/openebs/pools/default/filler bs=1M count=500 2>/dev/null || true',
    );
    const full = await host.docker(...create);
    expect(full.stderr).toMatch(/pool default is full/);
    await host.shellOk('rm /var/lib/openebs/pools/default/filler');
    const readOnly = await host.docker(...create.slice(0, -1), '-o', 'pool=archive', 'frozen');
    expect(readOnly.stderr).toMatch(/pool archive.*read-only/);
    await waitFor('the failed one is gone', async () => (await host.ok('volume', 'ls', '-q')) === 'early');
    await createVolume(host, 'late', { size: '100M' });
    await runOn(host, 'late', 'echo ok > /data/ok');
  });

  test.each(['ext4', 'xfs', 'btrfs'])(
    'before the first mount of a volume with %s fails that mount with the reason, leaves nothing of it, and works with room',
    async (fs) => {
      for (const leftMiB of [0, 1, 8, 40]) {
        await createVolume(host, 'late', { fs, size: '2G' });
        await host.shell(
          `dd if=/dev/zero of=${hostPool}/filler bs=64k 2>/dev/null; truncate -s -${String(leftMiB)}M ${hostPool}/filler`,
        );
        const before = await tracesOf(host);
        const refused = await tryOn(host, 'late', 'true');
        // With some room it depends on mkfs: what it has made then is whole, or is made anew.
        if (leftMiB === 0) expect(refused.code).not.toBe(0);
        if (refused.code !== 0)
          expect(refused.stderr).toMatch(/volume late: pool default is full: .*free some space/);
        await expectTraces(host, before);
        await host.shellOk(`rm ${hostPool}/filler`);
        expect(await runOn(host, 'late', 'ls -A /data; echo ok > /data/ok; cat /data/ok')).toBe('ok');
        await waitFor('Status is clear', async () => (await statusOf(host, 'late')).error === '', {
          timeoutMs: 60_000,
        });
        await host.ok('volume', 'rm', 'late');
      }
    },
  );
});

describe('what is missing or damaged is told, and never made anew', () => {
  let state: string;

  beforeAll(async () => {
    host = await startProductHost({ name: 'damage' });
    state = join(host.lib, 'openebs');
  });

  afterEach(async () => {
    await tidy(host);
  });

  afterAll(async () => {
    await host.close();
  });

  async function restartPlugin(): Promise<void> {
    await host.ok('plugin', 'disable', '-f', 'openebs');
    await host.ok('plugin', 'enable', 'openebs');
  }

  function works(volume: string): Promise<true> {
    return waitFor(
      `${volume} works`,
      async () => {
        const result = await tryOn(host, volume, 'cat /data/kept; echo ok > /data/ok');
        if (result.code === 0 && result.stdout.trim() === 'kept') return true;
        throw new Error(result.stderr);
      },
      { timeoutMs: 60_000, everyMs: 1000 },
    );
  }

  async function twoVolumes(): Promise<string> {
    for (const name of ['hurt', 'well']) {
      await createVolume(host, name, { size: '100M' });
      await runOn(host, name, 'echo kept > /data/kept; sync /data/kept');
    }
    await whenDetached('hurt');
    return poolFile(host, await statusOf(host, 'hurt'));
  }

  const put = (key: string, value: string): Promise<string> => etcd('put', { key, value });

  async function get(key: string): Promise<string> {
    const { kvs } = JSON.parse(await etcd('range', { key })) as { kvs?: { value: string }[] };
    return Buffer.from(kvs?.[0]?.value ?? '', 'base64').toString();
  }

  test('a data file that is missing, cut, a link or a directory', async () => {
    const file = await twoVolumes();
    const { id } = await statusOf(host, 'hurt');
    const damages: readonly (readonly [RegExp, () => void])[] = [
      [/disk\.img is missing/, () => undefined],
      [
        /disk\.img.*(not a file|symbolic link)/,
        () => {
          symlinkSync(`${file}.away`, file);
        },
      ],
      [
        /disk\.img.*(not a file|directory)/,
        () => {
          mkdirSync(file);
        },
      ],
      [
        /has 4096 bytes/,
        () => {
          writeFileSync(file, '');
          truncateSync(file, 4096);
        },
      ],
    ];
    renameSync(file, `${file}.away`);
    for (const [reason, damage] of damages) {
      damage();
      // A target that runs has the file open and goes on; the next one refuses.
      await host.ok('rm', '-f', `openebs-target-${id}`);
      await waitFor('it is told', async () => reason.test((await statusOf(host, 'hurt')).error), {
        timeoutMs: 60_000,
      });
      const refused = await tryOn(host, 'hurt', 'true');
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(reason);
      await works('well');
      rmSync(file, { recursive: true, force: true });
    }
    expect(existsSync(file)).toBe(false);
    renameSync(`${file}.away`, file);
    await works('hurt');
  });

  test('a pool directory that vanished under a volume: it is neither removed nor forgotten, and works when it is back', async () => {
    await twoVolumes();
    await startIdle(host, 'user', 'well');
    const place = join(state, 'pools/default');
    renameSync(place, join(host.lib, 'away'));
    try {
      const refused = await host.docker('volume', 'rm', 'hurt');
      expect(refused.stderr).toMatch(/pool default does not exist.*mount its disk/s);
      // Its place is there again, and empty: so looks a disk that is not mounted after a boot.
      await restartPlugin();
      await waitFor('its place is there', () => existsSync(place));
      expect(readdirSync(place)).toEqual([]);
      const empty = await waitFor('the plugin is up', async () => {
        const result = await host.docker('volume', 'rm', 'hurt');
        return !result.stderr.includes('still starting') && result;
      });
      expect(empty.stderr).toMatch(/pool default is empty, although volumes are recorded in it/);
      const created = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=100M', 'late');
      expect(created.stderr).toMatch(/pool default is empty/);
      // Who had it open goes on.
      await inside(host, 'user', 'echo more > /data/more; sync /data/more');
    } finally {
      rmSync(place, { recursive: true, force: true });
      renameSync(join(host.lib, 'away'), place);
    }
    await works('hurt');
    await works('well');
    await waitFor('what failed is gone', async () => (await host.ok('volume', 'ls', '-q')) === 'hurt\nwell');
  });

  test('spec files of the data plane that are damaged or gone are written anew', async () => {
    await twoVolumes();
    const { id } = await statusOf(host, 'hurt');
    const directory = join(state, `containers/openebs-target-${id}`);
    for (const damage of [
      () => {
        writeFileSync(join(directory, 'spec'), 'garbage\0\n');
      },
      () => {
        rmSync(join(directory, 'spec'));
      },
      () => {
        rmSync(directory, { recursive: true });
      },
    ]) {
      damage();
      await host.ok('rm', '-f', `openebs-target-${id}`);
      await works('hurt');
    }
    // Under a running role: a spec that ends after its first line, and a control socket that is gone.
    await startIdle(host, 'user', 'hurt');
    const whole = readFileSync(join(directory, 'spec'), 'utf8');
    writeFileSync(join(directory, 'spec'), whole.slice(0, whole.indexOf('\n') + 1));
    rmSync(join(directory, 'ctl'));
    await waitFor('the spec is whole', () => readFileSync(join(directory, 'spec'), 'utf8') === whole);
    await host.ok('rm', '-f', `openebs-target-${id}`);
    await inside(host, 'user', 'echo on > /data/on; sync /data/on');
    await host.ok('rm', '-f', 'user');
    for (const file of ['spec', 'etcd.json', 'server.key'])
      writeFileSync(join(state, 'containers/openebs-etcd', file), 'garbage\n');
    await host.ok('rm', '-f', 'openebs-etcd');
    await waitFor(
      'etcd is back',
      async () => {
        await createVolume(host, 'later', { size: '100M' });
        return true;
      },
      { timeoutMs: 60_000 },
    );
    await works('well');
  });

  test('records of one volume that are damaged hurt that volume alone', async () => {
    await twoVolumes();
    const { id } = await statusOf(host, 'hurt');
    const plugin = await host.pluginPid();
    for (const key of [`/openebs/targets/${id}/0`, '/openebs/volumes/hurt', `/openebs/attachments/${id}`]) {
      const good = await get(key);
      await put(key, '{"schema":1,');
      await waitFor('it is told', async () => {
        const refused = await tryOn(host, 'hurt', 'true');
        return refused.code !== 0 && refused.stderr.includes(`record at ${key} is damaged`);
      });
      await works('well');
      await createVolume(host, 'new', { size: '100M' });
      await host.ok('volume', 'rm', 'new');
      if (good === '') await etcd('deleterange', { key });
      else await put(key, good);
      await works('hurt');
    }
    expect(await host.pluginPid(), 'no record ends the plugin').toBe(plugin);
  });

  test('records that a newer version wrote are shown, refused with the reason and left as they are', async () => {
    await twoVolumes();
    await startIdle(host, 'user', 'hurt');
    const { id } = await statusOf(host, 'hurt');
    const known = await host.ok('volume', 'ls', '-q');
    const reason =
      'written by a newer version of this plugin (schema 2, this one reads 1): upgrade the plugin';
    for (const key of ['/openebs/volumes/hurt', `/openebs/targets/${id}/0`, `/openebs/attachments/${id}`]) {
      const good = await get(key);
      const newer = JSON.stringify({ ...(JSON.parse(good) as object), schema: 2, more: ['of another time'] });
      await put(key, newer);
      for (const restart of key.includes('volumes') ? [false, true] : [false]) {
        if (restart) await restartPlugin();
        await waitFor('it is shown', async () => (await statusOf(host, 'hurt')).error.includes(reason));
        expect(await host.ok('volume', 'ls', '-q')).toBe(known);
        expect((await tryOn(host, 'hurt', 'true')).stderr).toContain(reason);
        expect(await inside(host, 'user', 'echo more >> /data/more; sync /data/more; cat /data/kept')).toBe(
          'kept',
        );
        await works('well');
      }
      expect((await host.docker('volume', 'rm', '-f', 'hurt')).stderr).toMatch(/in use|newer version/);
      expect(await get(key), 'its record is untouched').toBe(newer);
      await put(key, good);
      await works('hurt');
    }
    await host.ok('rm', '-f', 'user');
    await whenDetached('hurt');
    const key = '/openebs/volumes/hurt';
    const good = await get(key);
    await put(key, good.replace('"schema":1', '"schema":2'));
    await waitFor('it is shown', async () => (await statusOf(host, 'hurt')).error.includes(reason));
    expect((await host.docker('volume', 'rm', 'hurt')).stderr).toContain(reason);
    await put(key, good);
    await works('hurt');
  });

  test("the node's own files: what can be made anew is, what cannot is named", async () => {
    await twoVolumes();
    await startIdle(host, 'user', 'well');
    const broken = async (name: string, reason: RegExp): Promise<void> => {
      const file = join(state, name);
      copyFileSync(file, `${file}.good`);
      writeFileSync(file, '{"no');
      await restartPlugin();
      await waitFor('it is named', () => reason.test(host.log()), { timeoutMs: 60_000 });
      await inside(host, 'user', 'echo x > /data/x; sync /data/x');
      renameSync(`${file}.good`, file);
      await works('hurt');
    };
    await broken('node.json', /node\.json is damaged: restore it/);
    await broken('certificates/ca.crt', /certificate authority.*ca\.crt is damaged/);
    for (const name of ['certificates/client.crt', 'certificates/server.key', 'cache/records.json']) {
      writeFileSync(join(state, name), 'garbage');
      chmodSync(join(state, name), 0o600);
      await restartPlugin();
      await works('hurt');
    }
    writeFileSync(join(host.run, 'openebs/mounts.json'), '{"volumes":3');
    await restartPlugin();
    await works('well');
    await host.ok('rm', '-f', 'user');
    await whenDetached('well');
    const incarnation = join(state, 'etcd-incarnation.json');
    const good = readFileSync(incarnation, 'utf8');
    writeFileSync(incarnation, '{"no');
    await host.ok('rm', '-f', 'openebs-etcd');
    await waitFor('it is named', () => host.log().includes('etcd-incarnation.json is damaged'), {
      timeoutMs: 60_000,
    });
    writeFileSync(incarnation, good);
    await waitFor(
      'etcd is back',
      async () => {
        await createVolume(host, 'later', { size: '100M' });
        return true;
      },
      { timeoutMs: 60_000, everyMs: 1000 },
    );
  });
});

test('a root disk that is full loses nothing that was acknowledged, and recovers', async () => {
  host = await startLabHost({ name: 'root', plugin: true });
  try {
    mkdirSync(join(host.lib, 'openebs'), { recursive: true });
    await host.shellOk('mount -t tmpfs -o size=700M root /var/lib/openebs');
    await installPlugin(host);
    await createVolume(host, 'early', { size: '100M' });
    await runOn(host, 'early', 'echo kept > /data/kept; sync /data/kept');
    await host.shell('dd if=/dev/zero of=/var/lib/openebs/filler bs=64k 2>/dev/null');
    const acknowledged = ['early'];
    for (const name of ['one', 'two', 'three']) {
      const result = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=100M', name);
      if (result.code === 0) acknowledged.push(name);
      else expect(result.stderr).toMatch(/full|space/i);
    }
    // etcd ends when it finds no room for a write. Its log is laid out in pieces of 64 MB, so that takes as many bytes;
    // the journal of events alone would bring it there in minutes.
    let last: unknown;
    await waitFor(
      'etcd has ended over it',
      async () => {
        for (let written = 0; written < 40; written += 1)
          await etcd('put', { key: '/filler', value: 'x'.repeat(500_000) }).catch(() => undefined);
        const { code, stderr } = await host.docker('volume', 'create', '-d', 'openebs', 'four');
        last = { code, stderr };
        const reason = 'its disk is full: less than 64 MiB are free at /var/lib/openebs/etcd';
        return code !== 0 && stderr.includes(reason);
      },
      { timeoutMs: 180_000, everyMs: 100 },
    ).catch(async (reason: unknown) => {
      const disk = await host.shell('df -k /var/lib/openebs; ls -la /var/lib/openebs/etcd/member/wal');
      throw new Error(`${String(reason)}; the last create: ${JSON.stringify(last)}\n${disk.stdout}`);
    });
    const used = await tryOn(host, 'early', 'cat /data/kept');
    if (used.code !== 0) expect(used.stderr).toMatch(/full|space/i);
    await host.shellOk('rm /var/lib/openebs/filler');
    await waitFor(
      'all is back',
      async () => {
        await createVolume(host, 'late', { size: '100M' });
        return (await runOn(host, 'early', 'cat /data/kept')) === 'kept';
      },
      { timeoutMs: 90_000, everyMs: 1000 },
    );
    const now = (await host.ok('volume', 'ls', '-q')).split('\n');
    for (const name of acknowledged) expect(now).toContain(name);
    for (const name of acknowledged) await runOn(host, name, 'echo ok > /data/ok');
  } finally {
    await host.close();
  }
});
