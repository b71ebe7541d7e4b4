/** The image of the soak's workloads: PostgreSQL and Perl from Debian's packages. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { execOk } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { cached, hashOf } from '../support/lab-seed.js';

const packages = 'postgresql-17,perl-base,dash,bash,coreutils,sed,grep,findutils,libc-bin';
/** Nobody reads manuals here, and the database compiles no queries. */
const prune =
  'rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale "$1"/usr/lib/llvm* "$1"/usr/lib/*/libLLVM*';
const accounts =
  'printf "root:x:0:0::/:/bin/sh\\nuser:x:1234:1234::/:/bin/sh\\n" >/etc/passwd; ' +
  'printf "root:x:0:\\nuser:x:1234:\\n" >/etc/group; mkdir -p -m 1777 /tmp';

export const postgresPrograms = '/usr/lib/postgresql/17/bin';

export async function importSoakImage(host: LabHost): Promise<void> {
  const folder = await cached('soak-image', hashOf(packages, prune), async (unfinished) => {
    mkdirSync(unfinished, { recursive: true });
    const tar = join(unfinished, 'root.tar');
    await execOk(
      'mmdebstrap',
      [
        ...['--quiet', '--variant=extract', '--mode=root', `--include=${packages}`],
        ...['--aptopt=APT::Install-Recommends "false"', `--customize-hook=${prune}`],
        ...['trixie', tar, 'deb http://deb.debian.org/debian trixie main'],
      ],
      { timeoutMs: 600_000 },
    ).catch((reason: unknown) => {
      rmSync(unfinished, { recursive: true, force: true });
      throw reason;
    });
  });
  await host.ok('import', join(folder, 'root.tar'), 'soak-base:latest');
  await host.ok('run', '--name', 'accounts', '--network', 'none', 'soak-base', 'sh', '-ec', accounts);
  await host.ok('commit', 'accounts', 'soak:latest');
  await host.ok('rm', 'accounts');
}
