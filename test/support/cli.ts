/** `docker openebs` on a lab host: the built script where the docker command looks for its plugins. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Result } from './exec.js';
import type { LabHost } from './lab.js';
import { repository } from './lab-seed.js';

const script = join(repository, 'build/docker-openebs');

/** Below /usr a lab host has what the machine has: what it gets of its own there is in a file system of its own. */
export const cliFolder = '/usr/local/lib/docker/cli-plugins';

/** For the boot of a host. @throws where the CLI was not built */
export function withCli(): string {
  if (!existsSync(script)) throw new Error('there is no CLI: run `make cli` first');
  return `
    mount -t tmpfs -o mode=755 plugins /usr/local/lib
    mkdir -p ${cliFolder}
    cp ${script} ${cliFolder}/docker-openebs`;
}

/** Waits as long as a change of a cluster takes. */
export function openebs(host: LabHost, words: string): Promise<Result> {
  return host.shell(`docker openebs ${words}`, { timeoutMs: 180_000 });
}
