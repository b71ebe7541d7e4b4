/**
 * What Prometheus reads. Totals and gauges are taken from what the parts tell anyway, at each scrape (metric-table.ts);
 * only what has a distribution, or labels that nobody else counts, is counted here as it happens.
 *
 * Of the process there is what an alert or a first look needs, under the names that dashboards know. prom-client's
 * collectDefaultMetrics has forty series more, and for them a timer that wakes an idle daemon a hundred times a second
 * and an observer of each garbage collection.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { actionName, eventTypes } from '../docker/docker-event.js';
import type { StreamItem } from '../docker/event-stream.js';
import { type MetricsSource, readMetrics, type ReadMetric } from './metric-table.js';

export type { MetricsSource } from './metric-table.js';

export interface Metrics {
  /** One item of the event stream. @param now in milliseconds since 1970, as Date.now() */
  event(item: StreamItem, now: number): void;
  /** One object through one policy. @param tookMs milliseconds */
  evaluated(policy: string, kind: string, tookMs: number, failed: boolean): void;
  /** In Prometheus' text format. What `read` throws is passed on. */
  text(): Promise<string>;
  /** The media type of `text`. */
  readonly contentType: string;
}

/** All metrics of one plugin, in a registry of their own. `read` is called once for each scrape. */
export function createMetrics(read: () => MetricsSource): Metrics {
  const registry = new Registry();
  const countEvent = createEventMetrics(registry);
  const countEvaluation = createEvaluationMetrics(registry);
  const updates = readMetrics.map((metric) => createUpdate(registry, metric));
  const readProcess = createProcessMetrics(registry);
  return {
    event: countEvent,
    evaluated: countEvaluation,
    async text() {
      await readProcess();
      const source = read();
      for (const update of updates) update(source);
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

const knownTypes = new Set<string>([...eventTypes, 'service', 'node', 'secret', 'config', 'builder']);
/** Engines have some 60 actions, and a few dozen policies are many: this is for what nobody thought of. */
const MAX_NAMES = 200;
const MAX_NAME_CHARS = 128;
/** What is slower than this is an engine, or a process, that hangs. */
const LAG_BUCKETS = [0.005, 0.025, 0.1, 0.5, 2.5, 10, 60];
/** A policy takes 0.2 ms, and is stopped after 100. */
const EVALUATION_BUCKETS = [0.0002, 0.001, 0.005, 0.02, 0.1, 0.5];

function createEventMetrics(registry: Registry): Metrics['event'] {
  const registers = [registry];
  const events = new Counter({
    name: 'openebs_events_total',
    help: 'Events of the Docker engine by type and action.',
    labelNames: ['type', 'action'],
    registers,
  });
  const gaps = new Counter({
    name: 'openebs_event_gaps_total',
    help: 'Times that events may have been missed, by reason; all objects are listed anew then.',
    labelNames: ['reason'],
    registers,
  });
  const lag = new Histogram({
    name: 'openebs_event_lag_seconds',
    help:
      'From the time that the engine stamped on an event to its handling. Seconds: too few CPUs, or events that were ' +
      'asked for again after a reconnect.',
    buckets: LAG_BUCKETS,
    registers,
  });
  const bounded = createBounds();
  return (item, now) => {
    if (item.kind === 'gap') {
      gaps.inc({ reason: item.gap.reason });
      return;
    }
    const { event } = item;
    const type = knownTypes.has(event.type) ? event.type : 'other';
    events.inc({ type, action: bounded(actionName(event)) });
    // Swarm's events carry the time of the object, stamped on another host; and clocks are put right now and then.
    if (event.scope !== 'swarm') lag.observe(Math.max(0, now / 1e3 - Number(event.timeNano) / 1e9));
  };
}

function createEvaluationMetrics(registry: Registry): Metrics['evaluated'] {
  const registers = [registry];
  const seconds = new Histogram({
    name: 'openebs_policy_evaluation_seconds',
    help: 'How long a policy took for an object. Near 0.1: it is about to be stopped, and left out after five times.',
    labelNames: ['policy'],
    buckets: EVALUATION_BUCKETS,
    registers,
  });
  const errors = new Counter({
    name: 'openebs_policy_errors_total',
    help: 'Objects that a policy failed for, by kind; what it gave for them before stays. The log says why.',
    labelNames: ['policy', 'kind'],
    registers,
  });
  const bounded = createBounds();
  return (name, kind, tookMs, failed) => {
    const policy = bounded(name);
    seconds.observe({ policy }, tookMs / 1e3);
    if (failed) errors.inc({ policy, kind });
  };
}

/** The first so many names as they are, all others as one: what a stranger sends must not grow without end. */
function createBounds(): (name: string) => string {
  const seen = new Set<string>();
  return (name) => {
    const short = name.slice(0, MAX_NAME_CHARS);
    if (seen.has(short)) return short;
    if (seen.size >= MAX_NAMES) return 'other';
    seen.add(short);
    return short;
  };
}

function createUpdate(registry: Registry, { kind, name, help, labels, read }: ReadMetric) {
  const options = { name, help, labelNames: [...labels], registers: [registry] };
  const metric = kind === 'counter' ? new Counter(options) : new Gauge(options);
  return (source: MetricsSource) => {
    metric.reset();
    // Without labels it is 0 now: not there is something else.
    if (labels.length === 0) metric.remove();
    for (const [values, value] of read(source)) metric.inc(values, value);
  };
}

function createProcessMetrics(registry: Registry): () => Promise<void> {
  const registers = [registry];
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const counter = (name: string, help: string) => new Counter({ name, help, registers });
  const memory = gauge('process_resident_memory_bytes', 'Memory of the plugin without its role containers.');
  const heap = gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use. Growing for days: a leak.');
  const started = gauge('process_start_time_seconds', 'Start of the process, in seconds since 1970.');
  const cpu = counter('process_cpu_seconds_total', 'CPU time, user and system.');
  const active = counter(
    'openebs_event_loop_active_seconds_total',
    'Time that the event loop was busy. Its rate near 1: the plugin does nothing else, and answers late.',
  );
  const lag = gauge(
    'openebs_event_loop_lag_seconds',
    'How long the event loop took for one turn, at the scrape.',
  );
  started.set(Math.round(performance.timeOrigin) / 1e3);
  return async () => {
    const before = performance.now();
    await nextTurn();
    lag.set((performance.now() - before) / 1e3);
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = process.memoryUsage();
    memory.set(rss);
    heap.set(heapUsed);
    cpu.reset();
    cpu.inc((user + system) / 1e6);
    active.reset();
    active.inc(performance.eventLoopUtilization().active / 1e3);
  };
}
