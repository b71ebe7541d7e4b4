import { expect, it } from 'vitest';
import { createLog } from '../../../src/log.js';
import { createRepairLog } from '../../../src/volumes/repair-log.js';

it('tells the last repair of a volume, all of them in order, and is bounded', () => {
  const repairs = createRepairLog(createLog('silent'));
  expect(repairs.of('db')).toBe('');
  repairs.note('openebs-target-v1', 'db', 'container was missing: made anew');
  repairs.note('openebs-etcd', '', 'container was missing: made anew');
  repairs.note('openebs-initiator-v1', 'db', 'container was not running: started anew');
  expect(repairs.of('db')).toMatch(
    /^\d{4}-\d\d-\d\dT\S+Z openebs-initiator-v1: container was not running: started anew$/,
  );
  expect(repairs.all().map(({ container }) => container)).toEqual([
    'openebs-target-v1',
    'openebs-etcd',
    'openebs-initiator-v1',
  ]);
  for (let count = 0; count < 1000; count += 1) repairs.note('openebs-target-v2', 'other', 'again');
  expect(repairs.all().length).toBeLessThanOrEqual(100);
});
