import { describe, expect, it } from 'vitest';
import {
  formatToken,
  newTokenId,
  newTokenSecret,
  parseToken,
  sumOf,
} from '../../../../src/cluster/join/token.js';

const token = {
  addresses: ['10.0.0.1:23792', '[2001:db8::1]:23792'],
  authority: sumOf('an authority'),
  id: newTokenId(),
  secret: newTokenSecret(),
};

describe('a join token', () => {
  it('comes back as it was, with blanks around it', () => {
    expect(parseToken(`  ${formatToken(token)}\n`)).toEqual(token);
  });

  it('is one word that a shell leaves alone', () => {
    expect(formatToken(token)).toMatch(/^[A-Za-z0-9_-]+$/);
  });

  it('is refused when a character is missing or changed anywhere, and its text is not repeated', () => {
    const text = formatToken(token);
    for (let at = 0; at < text.length; at++) {
      const other = text[at] === 'x' ? 'y' : 'x';
      for (const wrong of [
        text.slice(0, at) + text.slice(at + 1),
        text.slice(0, at) + other + text.slice(at + 1),
      ]) {
        const failure = attempt(wrong);
        expect(failure).toMatch(
          /^this is no token to join with: it (does not begin|is not whole|is of another version)/,
        );
        expect(failure).not.toContain(text.slice(30, 60));
      }
    }
  });

  it.each([
    ['', 'does not begin with'],
    ['SWMTKN-1-abc', 'does not begin with'],
    ['openebs-join-2-abc-12345678', 'of another version'],
    [formatToken({ ...token, secret: 'short' }), 'is not one of this plugin'],
    [formatToken({ ...token, authority: 'zz' }), 'is not one of this plugin'],
  ])('%j is refused', (text, why) => {
    expect(attempt(text)).toContain(why);
  });
});

function attempt(text: string): string {
  try {
    parseToken(text);
  } catch (reason) {
    return (reason as Error).message;
  }
  throw new Error(`${text} was taken`);
}
