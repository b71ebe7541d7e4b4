/**
 * Images for test containers, made from the machine's own programs: a registry that could give one is not
 * needed. `lab` holds a shell, the common tools and fio; `lab-content` has files at /data, declared a volume.
 */
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, execOk } from './exec.js';
import type { LabHost } from './lab.js';

const programs = [
  ...['sh', 'fio', 'cat', 'chmod', 'chown', 'cp', 'cut', 'date', 'dd', 'df', 'du', 'echo', 'env', 'false'],
  ...[
    'find',
    'fstrim',
    'grep',
    'head',
    'id',
    'ln',
    'ls',
    'mkdir',
    'mv',
    'rm',
    'rmdir',
    'sed',
    'seq',
    'setpriv',
  ],
  ...[
    'sha256sum',
    'sleep',
    'sort',
    'stat',
    'sync',
    'tail',
    'tar',
    'test',
    'touch',
    'tr',
    'true',
    'truncate',
    'wc',
  ],
];

/** Lives until it is told to stop, and then stops at once: a bare `sleep` as pid 1 would ignore SIGTERM. */
const idle = `CMD ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]`;

async function programPaths(): Promise<string[]> {
  const paths: string[] = [];
  for (const name of programs) {
    const found = await exec('sh', [
      '-c',
      `PATH=$PATH:/usr/sbin:/sbin command -v /usr/bin/${name} || PATH=$PATH:/usr/sbin command -v ${name}`,
    ]);
    const path = found.stdout.trim();
    if (!path.startsWith('/'))
      throw new Error(`the lab image needs ${name}, which this machine lacks: install it`);
    paths.push(path);
  }
  return paths;
}

/** The programs, the loader and each library they load. */
async function fileClosure(): Promise<string[]> {
  const paths = await programPaths();
  const loaded = await execOk('ldd', paths);
  const libraries = [...loaded.matchAll(/(?:=> |^\t)(\/\S+) \(0x/gm)].map((match) => match[1] ?? '');
  return [...new Set([...paths, ...libraries])].sort();
}

export async function imageInputs(): Promise<string> {
  const files = await fileClosure();
  return idle + (await execOk('stat', ['--dereference', '--format', '%n %s %Y', ...files]));
}

export async function createImages(host: LabHost): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'lab-image-'));
  try {
    const tar = join(work, 'lab.tar');
    await writeRootTar(tar, work);
    await host.ok('import', '--change', idle, tar, 'lab:latest');
    const script =
      'mkdir -p /data/sub && echo from the image >/data/greeting && echo below >/data/sub/file && ' +
      'chown -R 1234:1234 /data/sub';
    await host.ok('run', '--name', 'content', '--network', 'none', 'lab:latest', 'sh', '-c', script);
    await host.ok('commit', '--change', 'VOLUME /data', '--change', idle, 'content', 'lab-content:latest');
    await host.ok('rm', 'content');
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function writeRootTar(tar: string, work: string): Promise<void> {
  const root = join(work, 'root');
  await execOk('sh', [
    '-ec',
    `mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/lib" "$1/usr/lib64" "$1/etc" "$1/proc" "$1/sys" "$1/dev" "$1/run" "$1/var"
     mkdir -m 1777 "$1/tmp"
     for name in bin sbin lib lib64; do ln -s usr/$name "$1/$name"; done`,
    'sh',
    root,
  ]);
  for (const file of await fileClosure()) {
    // Through the image's own /lib -> usr/lib, whatever the machine's layout is; links become files.
    await execOk('sh', [
      '-ec',
      'mkdir -p "$1$(dirname "$2")" && cp -L "$3" "$1$2"',
      'sh',
      root,
      file,
      realpathSync(file),
    ]);
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nuser:x:1234:1234::/:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nuser:x:1234:\n');
  await execOk('tar', ['-C', root, '-cf', tar, '.']);
}
