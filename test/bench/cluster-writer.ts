/**
 * A process on a lab host that writes one numbered record every 10 ms, and tells of each on standard output how it ended.
 * On SIGTERM it begins no more, and ends when all have.
 *
 * product through the seam to shared state, as the plugin does: any member, repeated, read back where in doubt
 * plain    the yardstick: one HTTP request to etcd's own gateway for each, to one member after the other, never repeated
 *
 * Arguments: product or plain, folder of the compiled sources, folder of the certificates, prefix of the keys, endpoints.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { readFileSync, writeSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { createRequire } from 'node:module';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type * as Etcd3 from 'etcd3';
import type * as EtcdState from '../../src/state/etcd-state.js';

/** Times are those of the machine's monotonic clock, in milliseconds. */
export interface Told {
  readonly key: string;
  readonly nonce: string;
  readonly began: number;
  readonly ended: number;
  /** Empty: acknowledged. */
  readonly error: string;
  /** How often the write was sent, and how often it was read whether it had been carried out. */
  readonly sent: number;
  readonly readBack: number;
}

type Write = (key: string, nonce: string) => Promise<void>;

const EVERY_MS = 10;
const [kind, dist = '', certificates = '', prefix = '', ...endpoints] = process.argv.slice(2);
const read = (name: string) => readFileSync(`${certificates}/${name}`);
const tls = { ca: read('ca.crt'), certificate: read('client.crt'), key: read('client.key') };
const counting = new AsyncLocalStorage<{ sent: number; readBack: number }>();
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** What it does to find out is counted below it, where it leaves for etcd. */
async function throughProduct(): Promise<Write> {
  const { createEtcdState } = (await import(`${dist}/state/etcd-state.js`)) as typeof EtcdState;
  const { KVClient } = createRequire(`${dist}/main.js`)('etcd3') as typeof Etcd3;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called below with its own client
  const { txn } = KVClient.prototype;
  KVClient.prototype.txn = function (sent, options) {
    const count = counting.getStore();
    if (count) count[sent.compare ? 'sent' : 'readBack'] += 1;
    return txn.call(this, sent, options);
  };
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet } as never;
  const state = createEtcdState({ endpoints, tls: { ...tls, serverName: 'localhost' }, log });
  const ctx = { log, signal: new AbortController().signal, requestId: 'bench' };
  return async (key, nonce) => {
    const done = await state.transact(ctx, {
      if: [{ key, absent: true }],
      then: [{ put: key, value: nonce }],
    });
    if (!done.ok) throw new Error('somebody else has written it');
  };
}

const PLAIN_TIMEOUT_MS = 5000;

function throughGateway(): Write {
  const agent = new Agent({ keepAlive: true, ca: tls.ca, cert: tls.certificate, key: tls.key });
  let turn = 0;
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return (key, nonce) =>
    new Promise((resolve, reject) => {
      const url = `${endpoints[(turn += 1) % endpoints.length] ?? ''}/v3/kv/put`;
      const call = request(url, { method: 'POST', agent, timeout: PLAIN_TIMEOUT_MS }, (answer) => {
        answer.resume();
        if (answer.statusCode === 200) answer.on('end', resolve);
        else reject(new Error(`status ${String(answer.statusCode)}`));
      });
      call.on('timeout', () => call.destroy(new Error('no answer')));
      call.on('error', reject);
      call.end(JSON.stringify({ key: base64(key), value: base64(nonce) }));
    });
}

async function record(write: Write, number: number): Promise<void> {
  const key = `${prefix}${String(number).padStart(6, '0')}`;
  const nonce = randomUUID();
  const count = { sent: 0, readBack: 0 };
  const began = nowMs();
  const error = await counting
    .run(count, () => write(key, nonce))
    .then(
      () => '',
      (reason: unknown) => String(reason),
    );
  const told: Told = { key, nonce, began, ended: nowMs(), error, ...count };
  writeSync(1, `${JSON.stringify(told)}\n`);
}

const write = kind === 'product' ? await throughProduct() : throughGateway();
const ending = new AbortController();
process.on('SIGTERM', () => {
  ending.abort();
});
const all: Promise<void>[] = [];
const start = nowMs();
for (let number = 0; !ending.signal.aborted; number += 1) {
  await sleep(Math.max(0, start + number * EVERY_MS - nowMs()));
  // Timers go before what has arrived: on a busy machine a call begun by each of them would leave no time to read answers.
  await setImmediate();
  all.push(record(write, number));
}
await Promise.all(all);
process.exit(0);
