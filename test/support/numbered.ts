/** Numbered writes from a lab host to the etcd of its cluster, and what became of them. */
import { join, resolve } from 'node:path';
import { expect } from 'vitest';
import { waitFor } from './exec.js';
import type { LabHost } from './lab.js';

export interface NumberedWrites {
  /** Waits for so many more. */
  goOn(more?: number): Promise<void>;
  /** Ends them. All that were acknowledged are there, none has failed; answers how many, and the slowest in ms. */
  finish(): Promise<{ readonly count: number; readonly slowestMs: number }>;
}

const certificates = '/var/lib/openebs/certificates';
const prefix = '/lab/numbered/';
const writer = resolve(import.meta.dirname, 'numbered-writer.ts');

/** From a host with a member to those at these addresses. */
export function startNumberedWrites(on: LabHost, addresses: readonly string[]): NumberedWrites {
  const endpoints = addresses.map((address) => `https://${address}:23790`);
  const [node, ...args] = [process.execPath, '--import', import.meta.resolve('tsx'), writer];
  const running = on.spawn(node, [...args, certificates, prefix, ...endpoints]);
  const lines = () => running.output().split('\n');
  const acked = () =>
    lines().flatMap((line) => {
      const [, number, ms] = /^ack (\d+) (\d+)$/.exec(line) ?? [];
      return number === undefined ? [] : [{ number, ms: Number(ms) }];
    });
  return {
    async goOn(more = 20) {
      const before = acked().length;
      await waitFor(`${String(more)} more writes`, () => acked().length >= before + more, {
        timeoutMs: 60_000,
      }).catch((reason: unknown) => {
        throw new Error(`${String(reason)}\n${lines().slice(-10).join('\n')}`);
      });
    },
    async finish() {
      await running.stop();
      const all = acked();
      expect(lines().filter((line) => line !== '' && !line.startsWith('ack '))).toEqual([]);
      const there = new Set(await numbersOn(on));
      expect(all.filter(({ number }) => !there.has(number))).toEqual([]);
      return { count: all.length, slowestMs: Math.max(...all.map(({ ms }) => ms)) };
    },
  };
}

/** By etcd's own gateway, all keys below the prefix. */
async function numbersOn(host: LabHost): Promise<string[]> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const request = { key: base64(prefix), range_end: base64(`${prefix.slice(0, -1)}0`), keys_only: true };
  const files = ['cacert', 'cert', 'key'].map(
    (option, index) => `--${option} ${join(certificates, ['ca.crt', 'client.crt', 'client.key'][index]!)}`,
  );
  const answer = await host.shellOk(
    `curl -sS --fail ${files.join(' ')} https://127.0.0.1:23790/v3/kv/range -d '${JSON.stringify(request)}'`,
  );
  const { kvs = [] } = JSON.parse(answer) as { kvs?: { key: string }[] };
  return kvs.map(({ key }) => Buffer.from(key, 'base64').toString().slice(prefix.length));
}
