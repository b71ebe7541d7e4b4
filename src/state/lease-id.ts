import { randomBytes } from 'node:crypto';

/** 63 random bits, never zero, as etcd3 wants it: decimal. */
export function randomLeaseId(): string {
  return String((randomBytes(8).readBigUInt64BE() >> 1n) | 1n);
}
