/** The cluster as this host sees it: shared state is asked, and for want of an answer what this host remembers. */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { records, type AliveRecord, type Codec } from '../state/records.js';
import type { Replica } from '../state/replica.js';
import type { Entry, State } from '../state/state.js';
import type { Liveness } from '../volumes/liveness.js';
import type { ClusterMessage, FormationMessage, NodeMessage, NodesMessage, WhichEtcd } from './messages.js';

export interface ClusterViewDeps {
  readonly node: string;
  /** As far as it is believed: another cluster's counts as a failure. */
  readonly state: Pick<State, 'range'>;
  readonly replica: Pick<Replica, 'get' | 'list'>;
  readonly liveness: Pick<Liveness, 'awayMs'>;
  readonly etcd: WhichEtcd;
  /** Null where the plugin runs no etcd of its own. */
  readonly formation: ((ctx: Ctx) => Promise<FormationMessage>) | null;
}

export interface ClusterView {
  /** Never throws: that shared state does not answer is the answer. */
  cluster(ctx: Ctx): Promise<ClusterMessage>;
  nodes(ctx: Ctx): Promise<NodesMessage>;
}

/** Who looks does not wait longer; an etcd that is slower than this is in trouble. */
const LOOK_TIMEOUT_MS = 3000;

export function createClusterView(deps: ClusterViewDeps, timeoutMs = LOOK_TIMEOUT_MS): ClusterView {
  return {
    cluster: (ctx) => readCluster(withDeadline(ctx, timeoutMs), deps),
    nodes: (ctx) => readNodes(withDeadline(ctx, timeoutMs), deps),
  };
}

/** What etcd failed with last tells more than that our time is over, and that more than which key was read. */
function problemOf(reason: unknown, { etcd }: ClusterViewDeps): string {
  const { code, message } = AppError.from(reason);
  if (code !== 'deadline_exceeded' || etcd.none === true) return message;
  const named = message.indexOf('etcd at ');
  return named >= 0
    ? message.slice(named)
    : `etcd at ${etcd.endpoints.join(', ')} does not answer (${message})`;
}

async function readCluster(ctx: Ctx, deps: ClusterViewDeps): Promise<ClusterMessage> {
  const began = performance.now();
  const looked = await deps.state.range(ctx, keys.cluster).then(
    ({ entries }) => ({ entry: entries.find(({ key }) => key === keys.cluster), problem: null }),
    (reason: unknown) => ({ entry: undefined, problem: problemOf(reason, deps) }),
  );
  const answerMs = Math.round(performance.now() - began);
  const entry = looked.entry ?? deps.replica.get(keys.cluster);
  const record = entry && read(records.cluster, entry).record;
  const formation = await deps.formation?.(ctx);
  return {
    id: record?.id ?? null,
    createdAt: record?.createdAt ?? null,
    node: deps.node,
    etcd: {
      ...deps.etcd,
      usable: looked.problem === null,
      problem: looked.problem,
      answerMs: looked.problem === null ? answerMs : null,
    },
    ...(formation && { formation }),
  };
}

async function readNodes(ctx: Ctx, deps: ClusterViewDeps): Promise<NodesMessage> {
  try {
    const [known, alive, settings] = await Promise.all([
      deps.state.range(ctx, keys.nodes),
      deps.state.range(ctx, keys.allAlive),
      deps.state.range(ctx, keys.allNodeSettings),
    ]);
    const signs = new Map(alive.entries.map((entry) => [entry.key.slice(keys.allAlive.length), entry]));
    const found = nodesOf(deps, { known: known.entries, settings: settings.entries, signs });
    return { nodes: sorted(found), problem: null };
  } catch (reason) {
    const settings = deps.replica.list(keys.allNodeSettings);
    const nodes = nodesOf(deps, { known: deps.replica.list(keys.nodes), settings, signs: null });
    return { nodes: sorted(nodes), problem: problemOf(reason, deps) };
  }
}

interface Told {
  readonly known: readonly Entry[];
  readonly settings: readonly Entry[];
  /** Of life, by node; null when nobody can tell. */
  readonly signs: ReadonlyMap<string, Entry> | null;
}

function nodesOf(deps: ClusterViewDeps, { known: entries, settings, signs }: Told): NodeMessage[] {
  const known = new Map(entries.map((entry) => [entry.key.slice(keys.nodes.length), entry]));
  const set = new Map(settings.map((entry) => [entry.key.slice(keys.allNodeSettings.length), entry]));
  // A sign of life comes a moment before the first record of its node.
  const ids = new Set([...known.keys(), ...(signs?.keys() ?? [])]);
  return [...ids].map((id) => ({
    id,
    self: id === deps.node,
    ...signOf(signs, id, deps),
    drained: isDrained(set.get(id)),
    ...factsOf(known.get(id)),
  }));
}

function isDrained(entry: Entry | undefined): boolean {
  return entry !== undefined && read(records.nodeSettings, entry).record?.drained === true;
}

function signOf(
  signs: ReadonlyMap<string, Entry> | null,
  id: string,
  { liveness }: ClusterViewDeps,
): Pick<NodeMessage, 'state' | 'since' | 'awaySeconds'> {
  if (signs === null) return { state: 'unknown', since: null, awaySeconds: null };
  const sign = signs.get(id);
  if (sign !== undefined) {
    const alive: AliveRecord | null = read(records.alive, sign).record;
    return { state: 'alive', since: alive?.since ?? null, awaySeconds: null };
  }
  const awayMs = liveness.awayMs(id);
  return { state: 'away', since: null, awaySeconds: awayMs > 0 ? Math.floor(awayMs / 1000) : null };
}

type Facts = Omit<NodeMessage, 'id' | 'self' | 'state' | 'since' | 'awaySeconds' | 'drained'>;

const nothing = { hostname: '', address: '', engineVersion: '', pluginVersion: '', pools: {}, labels: {} };

function factsOf(entry: Entry | undefined): Facts {
  if (entry === undefined) return { ...nothing, error: 'it has no record yet' };
  const { record, error } = read(records.node, entry);
  if (record === null) return { ...nothing, error };
  const { hostname, address, engineVersion, pluginVersion, pools, labels } = record;
  return { hostname, address, engineVersion, pluginVersion, pools, labels, error };
}

interface Read<T> {
  readonly record: T | null;
  readonly error: string;
}

/** One damaged record hides no other. */
function read<T>(codec: Codec<T>, { key, value }: Entry): Read<T> {
  try {
    return { record: codec.decode(key, value), error: '' };
  } catch (reason) {
    return { record: null, error: AppError.from(reason).message };
  }
}

function sorted(nodes: readonly NodeMessage[]): NodeMessage[] {
  return nodes.toSorted((a, b) => a.hostname.localeCompare(b.hostname) || a.id.localeCompare(b.id));
}
