import { createHash } from 'node:crypto';

export interface RecentSet {
  /** True if it was not among the last `size` different ones. */
  add(identity: string): boolean;
}

// Longer ones are kept as a digest: what is remembered must not depend on what others put into a name.
const maxIdentityChars = 256;

/** Remembers the last `size` identities. */
export function createRecentSet(size: number): RecentSet {
  const seen = new Set<string>(); // iterates in order of insertion
  return {
    add(identity) {
      const key =
        identity.length <= maxIdentityChars ? identity : createHash('sha1').update(identity).digest('base64');
      if (seen.has(key)) return false;
      seen.add(key);
      if (seen.size > size) {
        for (const oldest of seen) {
          seen.delete(oldest);
          break;
        }
      }
      return true;
    },
  };
}
