/**
 * A process that reads, writes and swaps one register in etcd as the product does, and says each call before it makes it,
 * and how it ended: what it had not said when it was killed is not known. Times are microseconds of the kernel's clock,
 * which all hosts share. SIGTERM ends it after the calls that it has begun.
 *
 * Arguments: name, prefix of its keys, folder with the certificates, and the URLs of etcd. The register is `PREFIXregister`.
 * Each other client puts each of its values below `PREFIXlog/` in the same transaction too.
 */
import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError, hasCode } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import type { Comparison } from '../../src/state/state.js';
import { createRandom } from '../soak/random.js';
import type { Begun, Ended } from './register.js';

const [, , name = '', prefix = '', certificates = '', ...endpoints] = process.argv;
const file = (base: string): Buffer => readFileSync(join(certificates, base));
const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: name };
const state = createEtcdState({
  endpoints,
  tls: {
    ca: file('ca.crt'),
    certificate: file('client.crt'),
    key: file('client.key'),
    serverName: 'localhost',
  },
  log: ctx.log,
});
const key = `${prefix}register`;
const PAUSE_MS = 25;

const now = (): number => Number(process.hrtime.bigint() / 1000n);
const tell = (line: Begun | Ended): void => {
  writeSync(1, `${JSON.stringify(line)}\n`);
};

let stopping = false;
process.once('SIGTERM', () => {
  stopping = true;
});

interface Known {
  readonly value: string;
  readonly revision: number;
}

/** Anything else promises that nothing has happened. */
const doubtful = ['unavailable', 'deadline_exceeded', 'canceled'] as const;

async function run(client: string, hasLog: boolean): Promise<void> {
  const random = createRandom(Buffer.from(client).reduce((sum, byte) => sum * 31 + byte, 7));
  const last: { known: Known | null } = { known: null };

  async function read(number: number): Promise<void> {
    tell({ client, number, kind: 'read', begin: now() });
    const entry = await state.get(ctx, key);
    last.known = entry && { value: entry.value, revision: entry.modRevision };
    tell({ client, number, end: now(), outcome: 'ok', value: entry?.value ?? null });
  }

  async function put(number: number, expected: Known | null): Promise<void> {
    const value = `${client}-${String(number)}`;
    const kind = expected ? 'swap' : 'write';
    // Both ways to say it: by the revision a lost one may be sent again, by the value it may not.
    const compare: Comparison[] = expected
      ? [number % 2 === 0 ? { key, modRevision: expected.revision } : { key, value: expected.value }]
      : [];
    tell({ client, number, kind, value, expected: expected?.value ?? null, begin: now() });
    const log = hasLog ? [{ put: `${prefix}log/${value}`, value }] : [];
    const result = await state.transact(ctx, { if: compare, then: [{ put: key, value }, ...log] });
    last.known = result.ok ? { value, revision: result.revision } : null;
    tell({ client, number, end: now(), outcome: result.ok ? 'ok' : 'differed' });
  }

  for (let number = 0; !stopping; number += 1) {
    const kind = random.below(5);
    try {
      if (kind === 4) await put(number, null);
      else await (kind < 2 || last.known === null ? read(number) : put(number, last.known));
    } catch (reason) {
      const error = AppError.from(reason);
      const outcome = hasCode(error, ...doubtful) ? 'unknown' : 'failed';
      tell({ client, number, end: now(), outcome, why: `${error.code}: ${error.message}` });
    }
    await delay(PAUSE_MS);
  }
}

// The state lets a process end that waits for nothing else.
const alive = setInterval(() => undefined, 60_000);
await Promise.all([run(`${name}1`, false), run(`${name}2`, true)]);
await state.close();
clearInterval(alive);
