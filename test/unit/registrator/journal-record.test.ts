import { expect, it } from 'vitest';
import { recordOf } from '../../../src/registrator/journal-record.js';

it('a record of the journal has no secrets of labels', () => {
  const attributes = {
    name: 'web',
    'db.password': 'hunter2',
    API_KEY: 'hunter2',
    url: 'postgres://me:hunter2@db/x',
    tier: 'front',
  };
  const event = {
    type: 'container',
    action: 'start',
    actorId: 'a',
    attributes,
    scope: 'local',
    timeNano: '1',
  };
  const record = recordOf('n', event);
  expect(JSON.stringify(record)).not.toContain('hunter2');
  expect(record.attributes).toMatchObject({ name: 'web', tier: 'front', 'db.password': '[redacted]' });
  expect(record).not.toHaveProperty('truncated');
});
