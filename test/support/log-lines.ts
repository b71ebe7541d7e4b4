import { Writable } from 'node:stream';
import { createLog, type Log } from '../../src/log.js';

/** A log whose lines a test can read. */
export function createLogLines(): { log: Log; lines: { level: string; msg: string }[] } {
  const lines: { level: string; msg: string }[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().split('\n').filter(Boolean))
        lines.push(JSON.parse(line) as { level: string; msg: string });
      done();
    },
  });
  return { log: createLog('debug', destination), lines };
}
