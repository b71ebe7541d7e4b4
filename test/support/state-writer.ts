/**
 * A process that writes to the state in a directory as fast as it can, and says each write when it was acknowledged:
 * `ack KEY VALUE REVISION` for a put, with no value for a deletion. Tests kill it. Arguments: directory, fail-point file.
 */
import { writeSync } from 'node:fs';
import { armFailPoints } from '../../src/lib/fail-points.js';
import { createLog } from '../../src/log.js';
import { openLocalState } from '../../src/state/local-state.js';

const [, , directory = '', points] = process.argv;
const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'writer' };
const state = await openLocalState({ directory, shown: directory, log: ctx.log, leastBytes: 4000 });
const from = (await state.range(ctx, '')).revision;
armFailPoints(points);
writeSync(1, 'ready\n');

async function write(key: string): Promise<never> {
  for (let number = from; ; number += 1) {
    const value = `${String(number)}-${'.'.repeat(number % 700)}`;
    const operation = number % 7 === 6 ? { delete: key } : { put: key, value };
    // A key beside it tells whether one transaction was carried out as a whole.
    const pair = { put: `${key}/pair`, value: String(number) };
    const result = await state.transact(ctx, { if: [], then: [operation, pair] });
    if (!result.ok) throw new Error('a write without comparison failed');
    writeSync(1, `ack ${key} ${String(number)} ${String(result.revision)}\n`);
  }
}

await Promise.all(Array.from({ length: 6 }, (_, index) => write(`/key${String(index)}`)));
