import { describe, expect, it } from 'vitest';
import type { BackendStats, RegistryBackend } from '../../../../src/registrator/backends/backend.js';
import { createBackends } from '../../../../src/registrator/backends/by-key.js';
import { createLogLines } from '../../../support/log-lines.js';

const stats: BackendStats = { wanted: 1, pending: 0, writes: 2, failures: 0, conflicts: [], foreign: [] };
const wanted = { value: 'v', merge: 'min' as const, overwrite: false, source: 'p container c' };

/** Notes each call. */
function noting(): { readonly calls: unknown[]; readonly backend: RegistryBackend } {
  const calls: unknown[] = [];
  const noted = (name: string, ...more: unknown[]) => void calls.push([name, ...more]);
  const backend: RegistryBackend = {
    want: (key, value) => {
      noted('want', key, value?.value ?? null);
    },
    complete: () => {
      noted('complete');
    },
    settled() {
      noted('settled');
      return Promise.resolve();
    },
    stats: () => stats,
    close(how) {
      noted('close', how);
      return Promise.resolve();
    },
  };
  return { calls, backend };
}

describe('the backends of the registry', () => {
  it('get the keys of their scheme, and all that is for all', async () => {
    const [etcd, consul] = [noting(), noting()];
    const backends = createBackends({ etcd: etcd.backend, consul: consul.backend }, createLogLines().log);
    backends.want('/a/consul:/b', wanted);
    backends.want('consul:/host:web:80', wanted);
    backends.want('consul:/host:web:80', null);
    backends.complete();
    await backends.settled();
    await backends.close('hand-over');
    const all = [['complete'], ['settled'], ['close', 'hand-over']];
    expect(etcd.calls).toEqual([['want', '/a/consul:/b', 'v'], ...all]);
    expect(consul.calls).toEqual([
      ['want', 'consul:/host:web:80', 'v'],
      ['want', 'consul:/host:web:80', null],
      ...all,
    ]);
    expect(backends.stats()).toEqual({ etcd: stats, consul: stats });
  });

  it('say once that a backend is wanted and not there', async () => {
    const etcd = noting();
    const { log, lines } = createLogLines();
    const backends = createBackends({ etcd: etcd.backend }, log);
    backends.want('consul:/a', null);
    expect(lines).toEqual([]);
    for (const id of ['a', 'b']) backends.want(`consul:/${id}`, wanted);
    await backends.settled();
    await backends.close('withdraw');
    expect(lines).toMatchObject([{ level: 'warn', key: 'consul:/a', source: wanted.source }]);
    expect(etcd.calls).toEqual([['settled'], ['close', 'withdraw']]);
    expect(backends.stats()).toEqual({ etcd: stats });
  });
});
