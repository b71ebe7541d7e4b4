import type { ICompare, IKeyValue, IRequestOp } from 'etcd3';
import type { Comparison, Entry, Operation } from './state.js';

export function toEntry(kv: IKeyValue): Entry {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    createRevision: Number(kv.create_revision),
    modRevision: Number(kv.mod_revision),
    ...(Number(kv.lease) === 0 ? {} : { leaseId: kv.lease }),
  };
}

export function toCompare(comparison: Comparison): ICompare {
  if ('prefix' in comparison) {
    const { prefix, noPutAfter } = comparison;
    const range = { key: Buffer.from(prefix), range_end: endOf(prefix) };
    return { ...range, target: 'Mod', result: 'Less', mod_revision: noPutAfter + 1 };
  }
  const key = Buffer.from(comparison.key);
  if ('absent' in comparison) return { key, target: 'Create', result: 'Equal', create_revision: 0 };
  if ('value' in comparison) {
    return { key, target: 'Value', result: 'Equal', value: Buffer.from(comparison.value) };
  }
  if ('createRevision' in comparison) {
    return { key, target: 'Create', result: 'Equal', create_revision: comparison.createRevision };
  }
  return { key, target: 'Mod', result: 'Equal', mod_revision: comparison.modRevision };
}

export function toRequest(operation: Operation): IRequestOp {
  if ('delete' in operation) return { request_delete_range: { key: Buffer.from(operation.delete) } };
  const { put, value, lease } = operation;
  return {
    request_put: {
      key: Buffer.from(put),
      value: Buffer.from(value),
      ...(lease === undefined ? {} : { lease: lease.id }),
    },
  };
}

/** The first key after all keys that start with prefix; a zero byte means "no end". */
export function endOf(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  for (let index = end.length - 1; index >= 0; index--) {
    const byte = end[index] ?? 0xff;
    if (byte === 0xff) continue;
    end[index] = byte + 1;
    return end.subarray(0, index + 1);
  }
  return Buffer.from([0]);
}
