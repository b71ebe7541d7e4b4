/** The metrics that are read at each scrape from what the parts tell of themselves anyway: they cost nothing between. */
import type { EventStreamStats } from '../docker/event-stream.js';
import type { BackendStats } from './backends/backend.js';
import type { JournalStats } from './journal.js';
import type { RegistratorStats } from './registrator-stats.js';

export interface MetricsSource {
  /** Not there while it has not started, or is switched off: its metrics are left out then. */
  readonly registrator?: RegistratorStats;
  readonly stream: EventStreamStats;
  /** Not there where none is written. */
  readonly journal?: JournalStats;
  /** As `GET /v1/health` says. */
  readonly healthy: boolean;
}

export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

export interface ReadMetric {
  /** A counter starts anew with the process, which rate() knows. */
  readonly kind: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** What is not there has no sample, rather than a zero. */
  readonly read: (source: MetricsSource) => readonly Sample[];
}

/** Where a metric's numbers come from: its samples, and the names of their labels. */
interface From<Part> {
  readonly labels: readonly string[];
  readonly of: (source: MetricsSource, value: (part: Part) => number) => readonly Sample[];
}

/** [name without its prefix, help, value]; what ends in _total is a counter. */
type Row<Part> = readonly [name: string, help: string, value: (part: Part) => number];

function rows<Part>(from: From<Part>, table: readonly Row<Part>[]): ReadMetric[] {
  return table.map(([name, help, value]) => ({
    kind: name.endsWith('_total') ? 'counter' : 'gauge',
    name: `openebs_${name}`,
    help,
    labels: from.labels,
    read: (source) => from.of(source, value),
  }));
}

function whole<Part>(part: (source: MetricsSource) => Part | undefined): From<Part> {
  return {
    labels: [],
    of: (source, value) => {
      const found = part(source);
      return found === undefined ? [] : [[{}, value(found)]];
    },
  };
}

const byKind: From<number> = {
  labels: ['kind'],
  of: ({ registrator }, value) =>
    Object.entries(registrator?.objects.known ?? {}).map(([kind, count]) => [{ kind }, value(count)]),
};

const byBackend: From<BackendStats> = {
  labels: ['backend'],
  of: ({ registrator }, value) =>
    Object.entries(registrator?.backends ?? {}).map(([backend, stats]) => [{ backend }, value(stats)]),
};

/** Of backends that have leases. */
const byLease: From<number> = {
  labels: ['backend'],
  of: ({ registrator }, value) =>
    Object.entries(registrator?.backends ?? {}).flatMap(([backend, { leaseAgeSeconds: age }]) =>
      age === undefined ? [] : [[{ backend }, value(age)] as const],
    ),
};

const byPolicy: From<RegistratorStats['policies'][number]> = {
  labels: ['policy'],
  of: ({ registrator }, value) =>
    (registrator?.policies ?? []).map((policy) => [{ policy: policy.name }, value(policy)]),
};

const source = rows(
  whole<MetricsSource>((found) => found),
  [
    [
      'healthy',
      '1 if what goes on in the background succeeds; 0: GET /v1/health says what does not.',
      ({ healthy }) => Number(healthy),
    ],
  ],
);

const stream = rows(
  whole(({ stream: found }) => found),
  [
    [
      'event_stream_connected',
      '1 while the events of the Docker engine are followed; 0 for minutes: look whether the engine answers.',
      ({ connected }) => Number(connected),
    ],
    [
      'event_stream_reconnects_total',
      'Connections to the event stream after the first. A few after restarts of the engine are well.',
      ({ connects }) => Math.max(0, connects - 1),
    ],
    ['event_stream_events_total', 'Events that came, each counted once.', ({ events }) => events],
    [
      'event_stream_duplicates_total',
      'Events that came again after a reconnect, and were passed over.',
      ({ duplicates }) => duplicates,
    ],
    [
      'event_stream_malformed_total',
      'Lines of the stream that were no events; the log has the first. An engine that this version does not know?',
      ({ malformed }) => malformed,
    ],
    ['event_stream_queued', 'Events that wait for their listeners now.', ({ queued }) => queued],
    [
      'event_stream_dropped_total',
      'Events thrown away because listeners were too slow; the objects are listed anew then. Growing: too few CPUs?',
      ({ dropped }) => dropped,
    ],
  ],
);

const journal = rows(
  whole(({ journal: found }) => found),
  [
    ['journal_records', "Records of this host's journal in shared state.", ({ records }) => records],
    [
      'journal_queued',
      'Events that are not written yet; growing: etcd is away or slow.',
      ({ queued }) => queued,
    ],
    ['journal_written_total', 'Events written.', ({ written }) => written],
    ['journal_duplicates_total', 'Events that were in the journal already.', ({ duplicates }) => duplicates],
    ['journal_filtered_total', 'Events left out as noise (EVENTS_NOISE).', ({ filtered }) => filtered],
    [
      'journal_lost_total',
      'Events that could not be written before the queue was full; a record of the journal says from when to when.',
      ({ lost }) => lost,
    ],
    ['journal_trimmed_total', 'Records deleted as too old or too many.', ({ trimmed }) => trimmed],
    ['journal_failures_total', 'Tries to write that failed; the log says why.', ({ failures }) => failures],
  ],
);

const objects = [
  ...rows(byKind, [['objects', 'Objects of the engine that are known, by kind.', (count) => count]]),
  ...rows(
    whole(({ registrator }) => registrator?.objects),
    [
      [
        'objects_pending',
        'Objects that are to be inspected, or are being inspected. It goes back to 0; if not, the engine is slow.',
        ({ pending }) => pending,
      ],
      ['objects_inspections_total', 'Inspections of objects.', ({ inspections }) => inspections],
      ['objects_changes_total', 'Changes that were passed on to the policies.', ({ changes }) => changes],
      [
        'objects_reconciles_total',
        'Times that all objects were listed: at the start, after gaps in the events, every few minutes.',
        ({ reconciles }) => reconciles,
      ],
      [
        'objects_failures_total',
        'Lists, inspections and evaluations that failed, and are tried again; the log says why.',
        ({ failures }) => failures,
      ],
    ],
  ),
];

const policies = rows(byPolicy, [
  [
    'policy_running',
    '1 if the policy runs; 0: GET /v1/registry says why not.',
    ({ running }) => Number(running),
  ],
  [
    'policy_problem',
    '1 if something is wrong with the policy or with the object it met last: GET /v1/registry says what.',
    ({ problem }) => Number(problem !== null),
  ],
]);

const registrations = [
  ...rows(
    whole(({ registrator }) => registrator),
    [
      [
        'registrator_ready',
        '1 once all that was there at the start has been written.',
        ({ ready }) => Number(ready),
      ],
    ],
  ),
  ...rows(byBackend, [
    ['registrations_wanted', 'Keys that this host wants in the registry.', ({ wanted }) => wanted],
    [
      'registrations_pending',
      'Keys that are to be looked at, or are being written; above 0 for minutes: the registry is away.',
      ({ pending }) => pending,
    ],
    ['registrations_writes_total', 'Writes that changed something.', ({ writes }) => writes],
    ['registrations_failures_total', 'Writes that failed, and are tried again.', ({ failures }) => failures],
    [
      'registrations_conflicts',
      'Keys whose owners want different values; GET /v1/registry names them. Make the names differ.',
      ({ conflicts }) => conflicts.length,
    ],
    [
      'registrations_foreign',
      'Keys left alone because somebody else has written them; GET /v1/registry names them.',
      ({ foreign }) => foreign.length,
    ],
  ]),
  ...rows(byLease, [
    [
      'registrations_lease_age_seconds',
      'Since the last acknowledged keepalive of the oldest lease; above half of its time: keepalives are not answered.',
      (age) => age,
    ],
  ]),
];

export const readMetrics: readonly ReadMetric[] = [
  ...source,
  ...stream,
  ...journal,
  ...objects,
  ...policies,
  ...registrations,
];
