import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { armFailPoints, failPoint, failPoints, hookFailPoints } from '../../../src/lib/fail-points.js';
import { stepKinds } from '../../../src/volumes/plan.js';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'points-'));
  file = join(directory, 'order');
});

afterEach(() => {
  hookFailPoints(null);
  rmSync(directory, { recursive: true });
});

const order = (text: object) => {
  writeFileSync(file, JSON.stringify(text));
};

describe('a fail point', () => {
  it('does nothing unless it is armed, and cannot be armed by a setting of the plugin', () => {
    order({ action: 'error', point: 'before answer' });
    expect(failPoint('before answer')).toBeUndefined();
    armFailPoints(undefined);
    armFailPoints('');
    expect(failPoint('before answer')).toBeUndefined();
    expect(readFileSync('config.json', 'utf8')).not.toContain('OPENEBS_FAIL_POINTS');
    expect(readFileSync('src/main.ts', 'utf8')).toContain('OPENEBS_FAIL_POINTS');
  });

  it('fires once, at the hit that is asked for', async () => {
    armFailPoints(file);
    order({ action: 'error', point: 'before answer', hit: 2 });
    await failPoint('after answer');
    await failPoint('before answer');
    expect(() => failPoint('before answer')).toThrow('failed on purpose before answer');
    expect(existsSync(file)).toBe(false);
    expect(failPoint('before answer')).toBeUndefined();
  });

  it('counts anew for each order', async () => {
    armFailPoints(file);
    order({ action: 'error', point: 'before answer', hit: 2 });
    await failPoint('before answer');
    order({ action: 'error', point: 'before answer', hit: 1 });
    expect(() => failPoint('before answer')).toThrow();
  });

  it('waits as long as it is told, or notes that it was reached', async () => {
    armFailPoints(file);
    order({ action: 'delay', point: 'before answer', delayMs: 30 });
    const since = performance.now();
    await failPoint('before answer');
    expect(performance.now() - since).toBeGreaterThan(25);
    order({ action: 'record' });
    await failPoint('before answer');
    await failPoint('after markReady');
    expect(readFileSync(`${file}.log`, 'utf8')).toBe('before answer\nafter markReady\n');
  });

  it('is before and after every step of the plan, each under one name', () => {
    for (const step of stepKinds)
      expect(failPoints).toEqual(expect.arrayContaining([`before ${step}`, `after ${step}`]));
    const known = new Set(stepKinds.flatMap((step) => [`before ${step}`, `after ${step}`]));
    const ofSteps = failPoints.filter((point) => /^(before|after) [a-z]+[A-Z]/.test(point));
    expect(ofSteps.filter((point) => !known.has(point))).toEqual([]);
    expect(new Set(failPoints).size).toBe(failPoints.length);
  });
});
