import { register } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DockerEvent } from '../../../src/docker/docker-event.js';
import type { StreamItem } from '../../../src/docker/event-stream.js';
import { createMetrics, type Metrics, type MetricsSource } from '../../../src/registrator/metrics.js';
import type { RegistratorStats } from '../../../src/registrator/registrator-stats.js';

const registrator: RegistratorStats = {
  ready: true,
  objects: {
    known: { container: 3, volume: 2 },
    pending: 1,
    inspections: 20,
    changes: 9,
    reconciles: 4,
    failures: 5,
  },
  backends: {
    etcd: { wanted: 7, pending: 2, writes: 11, failures: 1, conflicts: ['/a', '/b'], foreign: ['/c'] },
    consul: { wanted: 6, pending: 0, writes: 10, failures: 0, conflicts: [], foreign: [] },
  },
  policies: [
    { name: 'skydns/kontena-local', from: 'default', running: true, problem: null },
    { name: '/etc/policies/b"ad.js', from: 'file', running: false, problem: 'no policy' },
  ],
};
const source: MetricsSource = {
  registrator,
  stream: {
    connected: true,
    connects: 3,
    events: 40,
    duplicates: 5,
    malformed: 6,
    queued: 7,
    dropped: 8,
  },
  journal: {
    written: 30,
    duplicates: 1,
    filtered: 2,
    lost: 3,
    trimmed: 4,
    failures: 5,
    queued: 6,
    records: 29,
  },
  healthy: true,
};
let told: MetricsSource;
let metrics: Metrics;

beforeEach(() => {
  told = source;
  metrics = createMetrics(() => told);
});

/** Value by series, as it stands in the text. */
async function scraped(): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(' ')),
      Number(line.slice(line.lastIndexOf(' ') + 1)),
    ]),
  );
}

function event(type: string, action: string, more: Partial<DockerEvent> = {}): StreamItem {
  const timeNano = '1767323045678000000';
  return {
    kind: 'event',
    event: { type, action, actorId: 'c', attributes: {}, scope: 'local', timeNano, ...more },
  };
}

const eventMs = 1_767_323_045_678;

describe('what is read at each scrape', () => {
  it.each([
    ['openebs_healthy', 1],
    ['openebs_event_stream_connected', 1],
    ['openebs_event_stream_reconnects_total', 2],
    ['openebs_event_stream_events_total', 40],
    ['openebs_event_stream_duplicates_total', 5],
    ['openebs_event_stream_malformed_total', 6],
    ['openebs_event_stream_queued', 7],
    ['openebs_event_stream_dropped_total', 8],
    ['openebs_journal_written_total', 30],
    ['openebs_journal_duplicates_total', 1],
    ['openebs_journal_filtered_total', 2],
    ['openebs_journal_lost_total', 3],
    ['openebs_journal_trimmed_total', 4],
    ['openebs_journal_failures_total', 5],
    ['openebs_journal_queued', 6],
    ['openebs_journal_records', 29],
    ['openebs_objects{kind="container"}', 3],
    ['openebs_objects{kind="volume"}', 2],
    ['openebs_objects_pending', 1],
    ['openebs_objects_inspections_total', 20],
    ['openebs_objects_changes_total', 9],
    ['openebs_objects_reconciles_total', 4],
    ['openebs_objects_failures_total', 5],
    ['openebs_policy_running{policy="skydns/kontena-local"}', 1],
    ['openebs_policy_problem{policy="skydns/kontena-local"}', 0],
    ['openebs_policy_running{policy="/etc/policies/b\\"ad.js"}', 0],
    ['openebs_policy_problem{policy="/etc/policies/b\\"ad.js"}', 1],
    ['openebs_registrator_ready', 1],
    ['openebs_registrations_wanted{backend="etcd"}', 7],
    ['openebs_registrations_pending{backend="etcd"}', 2],
    ['openebs_registrations_writes_total{backend="etcd"}', 11],
    ['openebs_registrations_failures_total{backend="etcd"}', 1],
    ['openebs_registrations_conflicts{backend="etcd"}', 2],
    ['openebs_registrations_foreign{backend="etcd"}', 1],
    ['openebs_registrations_wanted{backend="consul"}', 6],
    ['openebs_registrations_conflicts{backend="consul"}', 0],
  ])('%s is %d', async (series, value) => {
    await metrics.text();
    expect((await scraped()).get(series)).toBe(value);
  });

  it('is that of this scrape, and forgets what is gone', async () => {
    await metrics.text();
    told = {
      ...source,
      healthy: false,
      stream: { ...source.stream, connected: false, connects: 0, events: 0 },
      registrator: { ...registrator, ready: false, objects: { ...registrator.objects, known: { image: 1 } } },
    };
    const now = await scraped();
    expect(now.get('openebs_healthy')).toBe(0);
    expect(now.get('openebs_event_stream_connected')).toBe(0);
    expect(now.get('openebs_event_stream_reconnects_total')).toBe(0);
    expect(now.get('openebs_event_stream_events_total')).toBe(0);
    expect(now.get('openebs_registrator_ready')).toBe(0);
    expect([...now.keys()].filter((series) => series.startsWith('openebs_objects{'))).toEqual([
      'openebs_objects{kind="image"}',
    ]);
  });

  it('says nothing of a registrator that is not there, rather than zeros', async () => {
    const { stream, journal, healthy } = source;
    told = { stream, healthy, ...(journal ? { journal } : {}) };
    const found = [...(await scraped()).keys()];
    expect(found.filter((series) => /_(registrat|objects|policy)/.test(series))).toEqual([]);
    expect(found).toContain('openebs_journal_records');
    told = source;
    expect((await scraped()).get('openebs_objects_pending')).toBe(1);
  });

  it('has what tells how the process is', async () => {
    const found = await scraped();
    expect(found.get('process_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
    expect(found.get('process_cpu_seconds_total')).toBeGreaterThan(0);
    expect(found.get('process_start_time_seconds')).toBeCloseTo(performance.timeOrigin / 1000, 0);
    expect(found.get('openebs_event_loop_lag_seconds')).toBeLessThan(10);
    const before = found.get('openebs_event_loop_active_seconds_total') ?? NaN;
    expect((await scraped()).get('openebs_event_loop_active_seconds_total')).toBeGreaterThan(before);
  });

  it('is not mixed up by two scrapes at once', async () => {
    const withoutTimes = (text: string) => text.replaceAll(/^(process|nodejs|openebs_event_loop)_.*$/gm, '');
    const [one, other] = await Promise.all([metrics.text(), metrics.text()]);
    expect(withoutTimes(one)).toBe(withoutTimes(other));
  });
});

describe('what is counted as it happens', () => {
  it('is each event, by type and by the name of its action', async () => {
    metrics.event(event('container', 'start'), eventMs);
    metrics.event(event('container', 'exec_create: ls -l /secret'), eventMs);
    metrics.event(event('container', 'exec_create: id'), eventMs);
    metrics.event(event('hologram', 'start'), eventMs);
    const found = await scraped();
    expect(found.get('openebs_events_total{type="container",action="start"}')).toBe(1);
    expect(found.get('openebs_events_total{type="container",action="exec_create"}')).toBe(2);
    expect(found.get('openebs_events_total{type="other",action="start"}')).toBe(1);
  });

  it('is how late an event is, but for the events of other hosts and of clocks that are ahead', async () => {
    metrics.event(event('container', 'start'), eventMs + 300);
    metrics.event(event('container', 'start'), eventMs - 10_000);
    metrics.event(event('node', 'update', { scope: 'swarm' }), eventMs + 3_600_000);
    const found = await scraped();
    expect(found.get('openebs_event_lag_seconds_count')).toBe(2);
    expect(found.get('openebs_event_lag_seconds_sum')).toBeCloseTo(0.3, 3);
    expect(found.get('openebs_event_lag_seconds_bucket{le="0.1"}')).toBe(1);
    expect(found.get('openebs_event_lag_seconds_bucket{le="0.5"}')).toBe(2);
  });

  it('is each gap, by its reason', async () => {
    const gap = { reason: 'overflow', detail: '', sinceNano: '1', untilNano: '2' } as const;
    metrics.event({ kind: 'gap', gap }, eventMs);
    expect((await scraped()).get('openebs_event_gaps_total{reason="overflow"}')).toBe(1);
  });

  it('is how long policies take, and for what they fail', async () => {
    metrics.evaluated('skydns/local', 'container', 0.3, false);
    metrics.evaluated('skydns/local', 'image', 99, true);
    const found = await scraped();
    expect(found.get('openebs_policy_evaluation_seconds_count{policy="skydns/local"}')).toBe(2);
    expect(found.get('openebs_policy_evaluation_seconds_sum{policy="skydns/local"}')).toBeCloseTo(0.0993, 6);
    expect(found.get('openebs_policy_evaluation_seconds_bucket{le="0.001",policy="skydns/local"}')).toBe(1);
    expect(found.get('openebs_policy_errors_total{policy="skydns/local",kind="image"}')).toBe(1);
    expect(found.has('openebs_policy_errors_total{policy="skydns/local",kind="container"}')).toBe(false);
  });

  it('does not grow without end with names that nobody thought of', async () => {
    for (let index = 0; index < 1000; index += 1) {
      metrics.event(event('container', `action${String(index)}`), eventMs);
      metrics.evaluated(`policy${String(index)}`, 'container', 1, false);
    }
    metrics.event(event('container', 'action0'), eventMs);
    const found = await scraped();
    const of = (name: string) => [...found.keys()].filter((series) => series.startsWith(`${name}{`));
    expect(of('openebs_events_total')).toHaveLength(201);
    expect(of('openebs_policy_evaluation_seconds_count')).toHaveLength(201);
    expect(found.get('openebs_events_total{type="container",action="other"}')).toBe(800);
    expect(found.get('openebs_events_total{type="container",action="action0"}')).toBe(2);
  });
});

describe('the text', () => {
  it('follows the conventions: prefix, help, base units, _total for counters alone', async () => {
    const text = await metrics.text();
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => ({
      name,
      type,
    }));
    expect(types.length).toBeGreaterThan(30);
    expect(types.filter(({ name }) => !/^(openebs|process|nodejs)_[a-z_]+$/.test(name))).toEqual([]);
    expect(types.filter(({ name, type }) => name.endsWith('_total') !== (type === 'counter'))).toEqual([]);
    expect(types.filter(({ name }) => /_(ms|millis|nanos|mb|percent)/i.test(name))).toEqual([]);
    expect([...text.matchAll(/^# HELP \S+ .{10,}$/gm)]).toHaveLength(types.length);
    expect(metrics.contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  it('is of these metrics alone: nothing is in a registry that others share', async () => {
    const other = createMetrics(() => source);
    metrics.event(event('container', 'start'), eventMs);
    expect(await other.text()).not.toContain('action="start"');
    expect(register.getMetricsAsArray()).toEqual([]);
  });

  it('passes on why what it reads from cannot tell', async () => {
    metrics = createMetrics(() => {
      throw new Error('broken');
    });
    await expect(metrics.text()).rejects.toThrow('broken');
  });
});
