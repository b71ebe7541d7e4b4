import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { parseVolumeName } from '../../../src/volumes/volume-name.js';

describe('parseVolumeName', () => {
  it.each(['db', 'DB', '0a', 'a.b_c-d', 'f'.repeat(64), 'x'.repeat(255)])('accepts %.20s', (name) => {
    expect(parseVolumeName(name)).toBe(name);
  });

  it.each([
    ...[
      '',
      'a',
      '.',
      '..',
      '../x',
      'a/b',
      '/etc',
      'sp ace',
      'a;$(x)',
      '-rf',
      '_a',
      '.a',
      'größe',
      'ａb',
      'ab\n',
    ],
    ...['a\0b', 'x'.repeat(256), 'x'.repeat(100_000)],
  ])('refuses %.20j with the rule', (name) => {
    expect(() => parseVolumeName(name)).toThrow(/^volume name ".* is not allowed: use 2 to 255 characters/);
  });

  it('names the name, printable and short', () => {
    const act = () => parseVolumeName(`bad\u0007${'x'.repeat(300)}`);
    expect(act).toThrow(/"bad\\u\{7\}x+"\.\.\. \(304 characters\)/);
  });

  it('lets nothing through that could leave a directory', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        try {
          expect(parseVolumeName(name)).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/);
        } catch (reason) {
          expect(reason).toBeInstanceOf(AppError);
        }
      }),
    );
  });
});
