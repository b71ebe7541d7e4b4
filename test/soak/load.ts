import type { LabHost } from '../support/lab.js';
import { createVolume } from '../support/product.js';
import type { Workload } from './workload.js';

/**
 * fio writes at random, many requests at a time, and verifies each pass. A pass that a fault cuts off ends the
 * container, which starts again; a pass that reads back something else is a failure for good.
 */
export async function startLoad(
  host: LabHost,
  name: string,
  options: Readonly<Record<string, string>>,
): Promise<Workload> {
  await createVolume(host, name, options);
  const fio =
    'fio --name=load --filename=/data/load --size=16M --bs=4k --direct=1 --ioengine=libaio --iodepth=8 ' +
    '--rw=randwrite --verify=crc32c --do_verify=1 --verify_fatal=1 --thread --output=/tmp/fio.log';
  const script = `
    n=$(date +%s)
    while :; do
      ${fio} --randseed=$n || {
        grep -q "verify" /tmp/fio.log && { echo DIFFERS; cat /tmp/fio.log; }
        exit 1
      }
      n=$((n + 1)); echo "pass $n"
    done`;
  const where = ['--network', 'none', '-v', `${name}:/data`];
  await host.ok('run', '-d', '--name', name, '--restart', 'always', ...where, 'lab', 'sh', '-c', script);
  let last = 0;
  return {
    name,
    async acked() {
      const { stdout } = await host.docker('logs', '--tail', '3', name);
      for (const found of stdout.matchAll(/^pass (\d+)$/gm)) last = Math.max(last, Number(found[1]));
      return last;
    },
    async check() {
      const { stdout } = await host.docker('logs', name);
      const at = stdout.indexOf('DIFFERS');
      if (at >= 0) throw new Error(`${name} read back something else:\n${stdout.slice(at, at + 2000)}`);
    },
    close: () => Promise.resolve(),
  };
}
