/**
 * A client of etcd on a host, as the plugin is one: it writes numbered keys one after the other, without a pause longer
 * than 20 ms, and says of each how long it took (`ack NUMBER MS`), or why it failed (`fail NUMBER REASON`) before it tries
 * the same number again. Arguments: directory of the host's certificates, prefix of the keys, endpoints.
 */
import { readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';

const [, , directory = '', prefix = '', ...endpoints] = process.argv;
const read = (file: string) => readFileSync(join(directory, file));
const tls = {
  ca: read('ca.crt'),
  certificate: read('client.crt'),
  key: read('client.key'),
  serverName: 'localhost',
};
const log = createLog('silent');
const state = createEtcdState({ endpoints, tls, log });
const ctx = { log, signal: new AbortController().signal, requestId: 'writer' };

// What the product waits for keeps no process alive.
setInterval(() => undefined, 60_000);
for (let number = 1; ;) {
  const began = performance.now();
  try {
    await state.transact(ctx, {
      if: [{ key: `${prefix}${String(number)}`, absent: true }],
      then: [{ put: `${prefix}${String(number)}`, value: String(number) }],
    });
    writeSync(1, `ack ${String(number)} ${String(Math.round(performance.now() - began))}\n`);
    number += 1;
  } catch (reason) {
    writeSync(1, `fail ${String(number)} ${String(reason).replaceAll('\n', ' ')}\n`);
  }
  await delay(20);
}
