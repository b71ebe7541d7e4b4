import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failure } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { createVolume } from '../support/product.js';
import type { Workload } from './workload.js';

const script = readFileSync(join(import.meta.dirname, 'blocks.pl'), 'utf8');
const where = (volume: string) => [
  '--network',
  'none',
  '-v',
  `${volume}:/data`,
  'soak',
  'perl',
  '-e',
  script,
];

/** Numbered, checksummed blocks, each flushed before it is acknowledged: blocks.pl. */
export async function startBlocks(
  host: LabHost,
  name: string,
  options: Readonly<Record<string, string>>,
): Promise<Workload> {
  await createVolume(host, name, options);
  await host.ok('run', '-d', '--name', name, '--restart', 'always', ...where(name), 'write', '/data/blocks');
  let last = 0;
  const acked = async (): Promise<number> => {
    const { stdout } = await host.docker('logs', '--tail', '3', name);
    for (const found of stdout.matchAll(/^acked (\d+)$/gm)) last = Math.max(last, Number(found[1]));
    return last;
  };
  return {
    name,
    acked,
    async check() {
      const upTo = await acked();
      const how = ['run', '--rm', ...where(name), 'check', '/data/blocks', String(upTo)];
      const result = await host.docker(...how);
      if (result.code === 0 && result.stdout.startsWith('ok ')) return;
      throw new Error(`${name}, acknowledged up to ${String(upTo)}: ${failure('check', result)}`);
    },
    close: () => Promise.resolve(),
  };
}
