/** Volumes that come and go beside the faults. */
import { failure, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';

/**
 * One volume is made, written, read from another mount and removed. What a fault cuts off is done again, as a user
 * would; a sum that is wrong is wrong for good.
 */
export async function churnFor(host: LabHost, round: number): Promise<void> {
  const fs = (['ext4', 'xfs', 'btrfs'] as const)[round % 3] ?? 'ext4';
  const name = `churn-${String(round)}`;

  const until = (what: string, ...args: string[]): Promise<unknown> =>
    waitFor(
      `${name} is ${what}`,
      async () => {
        await host.docker('rm', '-f', name);
        await host.ok(...args);
        return true;
      },
      { timeoutMs: 240_000, everyMs: 1000 },
    );
  const inContainer = (script: string): string[] => [
    ...['run', '--name', name, '--network', 'none', '-v', `${name}:/data`, 'soak', 'sh', '-ec', script],
  ];

  await until('made', 'volume', 'create', '-d', 'openebs', '-o', 'size=400M', '-o', `fs=${fs}`, name);
  await until(
    'written',
    ...inContainer(
      'head -c 20000000 /dev/urandom >/data/file; sha256sum /data/file >/data/sum; sync /data/file /data/sum /data',
    ),
  );
  let differs = '';
  await waitFor(
    `${name} is read`,
    async () => {
      await host.docker('rm', '-f', name);
      const read = await host.docker(...inContainer('sha256sum -c /data/sum || exit 42'));
      if (read.code === 42) differs = failure('the check of what was written', read);
      return read.code === 0;
    },
    { timeoutMs: 240_000, everyMs: 1000, giveUp: () => differs !== '' },
  ).catch((reason: unknown) => {
    throw differs === '' ? reason : new Error(`${name}: ${differs}`);
  });
  await host.docker('rm', '-f', name);
  await waitFor(
    `${name} is removed`,
    async () => {
      const { code, stderr } = await host.docker('volume', 'rm', name);
      return code === 0 || stderr.includes('no such volume');
    },
    { timeoutMs: 240_000, everyMs: 1000 },
  );
}
