import { describe, expect, it } from 'vitest';
import { redact, redactText } from '../../../src/admin/redact.js';

describe('redact', () => {
  it('blanks out secrets at any depth and keeps the rest', () => {
    const value = {
      chapUser: 'u',
      chapSecret: 'x',
      list: [{ Password: 'x', passwordFile: 'x', deep: { oldSecrets: ['x'] } }],
      none: null,
      n: 1,
    };
    expect(redact(value)).toEqual({
      chapUser: 'u',
      chapSecret: '[redacted]',
      list: [{ Password: '[redacted]', passwordFile: '[redacted]', deep: { oldSecrets: '[redacted]' } }],
      none: null,
      n: 1,
    });
  });

  it('withholds what is not JSON', () => {
    expect(redactText('{"chapSecret":"x"')).toBe('[not JSON]');
    expect(redactText('{"chapSecret":"x"}')).toEqual({ chapSecret: '[redacted]' });
  });
});
