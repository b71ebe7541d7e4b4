import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SortedKeys } from '../../../src/state/sorted-keys.js';

it('sorted keys have below each prefix what a look at all would find', () => {
  const key = fc.string({ unit: fc.constantFrom('/', 'a', 'b', 'ü', '😀', '\uffff'), maxLength: 5 });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), key), { maxLength: 60 }), key, (changes, prefix) => {
      const keys = new SortedKeys();
      const all = new Set<string>();
      for (const [isAdded, changed] of changes) {
        if (isAdded) {
          keys.add(changed);
          all.add(changed);
        } else {
          keys.remove(changed);
          all.delete(changed);
        }
        expect(keys.below(prefix)).toEqual([...all].filter((one) => one.startsWith(prefix)).sort());
      }
    }),
  );
});
