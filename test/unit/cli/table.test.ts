import { describe, expect, it } from 'vitest';
import { count, facts, few, json, plain, size, span, table } from '../../../src/cli/table.js';

describe('tables', () => {
  it('are as wide as they need be, without spaces at the ends of lines', () => {
    expect(
      table(
        ['NAME', 'STATE'],
        [
          ['a', 'ready'],
          ['long-name', ''],
        ],
      ),
    ).toBe('NAME        STATE\na           ready\nlong-name\n');
    expect(table(['NAME'], [])).toBe('NAME\n');
  });

  it('count characters, not bytes or halves of them', () => {
    expect(table(['A', 'B'], [['äö😀', 'x']])).toBe('A     B\näö😀   x\n');
  });

  it('show nothing that a terminal would obey', () => {
    expect(table(['A'], [['\u001b[31mred\u0007\n']])).toBe('A\n\\u{1b}[31mred\\u{7}\\u{a}\n');
    expect(plain('a\u202eb')).toBe('a\\u{202e}b');
  });

  it('or facts, one a line', () => {
    expect(
      facts([
        ['a', '1'],
        ['long', ''],
      ]),
    ).toBe('a      1\nlong\n');
  });
});

it('sizes, spans and numbers are for people', () => {
  expect([size(0), size(10 * 2 ** 30), size(78_831_000_000)]).toEqual(['0 bytes', '10 GiB', '73.42 GiB']);
  expect([0, 119, 120, 7199, 7200, 172_800].map(span)).toEqual([
    '0 s',
    '119 s',
    '2 min',
    '119 min',
    '2 h',
    '2 d',
  ]);
  expect([count(1, 'key'), count(2, 'key'), count(0, 'policy', 'policies')]).toEqual([
    '1 key',
    '2 keys',
    '0 policies',
  ]);
  expect([few(['a', 'b']), few(['a', 'b', 'c'], 2)]).toEqual(['a, b', 'a, b and 1 more']);
  expect(json({ a: 1 })).toBe('{\n  "a": 1\n}\n');
});
