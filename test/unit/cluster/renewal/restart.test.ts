import { describe, expect, it } from 'vitest';
import { canWait, type MemberForm } from '../../../../src/cluster/renewal/restart.js';

const urls = {
  'listen-client-urls': 'https://127.0.0.1:23790,https://10.0.0.1:23790',
  'advertise-client-urls': 'https://10.0.0.1:23790',
  'listen-peer-urls': 'https://10.0.0.1:23791',
};
const form = (image: string | null, more: object = {}): MemberForm => ({
  image,
  configuration: JSON.stringify({ ...urls, 'auto-compaction-retention': '5m', ...more }),
});
const moved = { 'listen-peer-urls': 'https://10.0.0.9:23791' };

describe('a member that would have to end for this version of the plugin', () => {
  it.each([
    ['is as it should be', 'ready', form('i'), form('i'), false],
    ['serves, from another image', 'ready', form('older'), form('i'), true],
    ['serves, from an image that does not say which it is', 'ready', form(null), form('i'), true],
    ['serves, with another setting', 'ready', form('i'), form('i', { 'log-level': 'warn' }), true],
    ['does not run', undefined, form('older'), form('i'), false],
    ['starts still', 'starting', form('older'), form('i'), false],
    ['has ended', 'error', form('older'), form('i'), false],
    ['is being stopped', 'draining', form('older'), form('i'), false],
    ['listens at an address that is not its own any more', 'ready', form('i'), form('i', moved), false],
    ['the same, from another image', 'ready', form('older'), form('i', moved), false],
    ['has lost its configuration', 'ready', { image: 'i', configuration: null }, form('i'), false],
    ['has a damaged configuration', 'ready', { image: 'i', configuration: '{' }, form('i'), false],
  ] as const)('that %s: waits for its turn: %#', (...[, state, running, wanted, expected]) => {
    expect(canWait(state, running, wanted)).toBe(expected);
  });
});
