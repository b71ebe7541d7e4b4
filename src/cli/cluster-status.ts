import type {
  ClusterMessage,
  HealthMessage,
  NodesMessage,
  RegistryMessage,
  VolumesMessage,
} from '../admin/messages.js';
import type { Run } from './command.js';
import { exitCodes } from './failure.js';
import type { Finding } from './finding.js';
import { formationRows, membersTable } from './formation-view.js';
import { namesOfNodes } from './nodes.js';
import { count, facts, json, plain } from './table.js';
import { type Documents, findingsOf } from './verdict.js';

export const showStatus: Run = async (call, around) => {
  const { admin } = around;
  const [health, cluster, nodes, volumes] = await Promise.all([
    admin.get<HealthMessage>('/v1/health'),
    admin.get<ClusterMessage>('/v1/cluster'),
    admin.get<NodesMessage>('/v1/nodes'),
    admin.get<VolumesMessage>('/v1/volumes'),
  ]);
  const documents = { health, cluster, nodes, volumes };
  const findings = findingsOf(documents);
  const healthy = !findings.some(({ level }) => level === 'wrong');
  around.print(call.json ? json(reportOf(documents, findings, healthy)) : textOf(documents, findings));
  return healthy ? exitCodes.ok : exitCodes.wrong;
};

function reportOf(
  { health, cluster, nodes, volumes }: Documents,
  findings: readonly Finding[],
  healthy: boolean,
) {
  return {
    healthy,
    findings,
    cluster: { id: cluster.id, createdAt: cluster.createdAt },
    node: { id: cluster.node, version: health.version },
    etcd: cluster.etcd,
    formation: cluster.formation ?? null,
    nodes: nodes.nodes.map(({ id, hostname, self, state, awaySeconds }) => ({
      id,
      hostname,
      self,
      state,
      awaySeconds,
    })),
    volumes: { total: volumes.volumes.length, byState: byState(volumes), attached: attached(volumes) },
    records: { complete: health.recordsComplete ?? null, cache: health.cache ?? null },
    strays: health.strays ?? [],
    registrator: registratorOf(health),
  };
}

export function textOf(documents: Documents, findings: readonly Finding[], now = Date.now()): string {
  const { health, cluster, nodes, volumes } = documents;
  const nameOf = namesOfNodes(nodes.nodes);
  const self = nameOf(cluster.node);
  const rows: [string, string][] = [
    ['cluster', cluster.id === null ? 'not known yet' : `${cluster.id}, since ${cluster.createdAt ?? ''}`],
    ['this node', `${self === cluster.node ? self : `${self} (${cluster.node})`}, plugin ${health.version}`],
    ['etcd', etcdLine(cluster)],
    ...formationRows(cluster.formation, nameOf, now),
    ['nodes', nodesLine(nodes)],
    ['volumes', volumesLine(volumes)],
    ['records', recordsLine(health)],
    ['registrator', registratorLine(registratorOf(health))],
  ];
  const wrong = findings.filter(({ level }) => level === 'wrong');
  const notes = findings.filter(({ level }) => level === 'note');
  const members = membersTable(cluster.formation, nameOf);
  return [
    facts(rows),
    ...(members === '' ? [] : [members]),
    wrong.length === 0
      ? 'All is well.\n'
      : `${count(wrong.length, 'thing is', 'things are')} wrong:\n${blocks(wrong)}`,
    ...(notes.length === 0 ? [] : [`Worth knowing:\n${blocks(notes)}`]),
  ].join('\n');
}

/** `x: what`, and below it what goes on and what to do. */
function blocks(findings: readonly Finding[]): string {
  return findings
    .map(({ object, what, meanwhile, todo }) =>
      [
        `  ${plain(object)}: ${plain(what)}`,
        ...(meanwhile === '' ? [] : [`      meanwhile: ${plain(meanwhile)}`]),
        ...(todo === '' ? [] : [`      to do: ${plain(todo)}`]),
        '',
      ].join('\n'),
    )
    .join('');
}

function etcdLine({ etcd }: ClusterMessage): string {
  if (etcd.none === true) {
    const alone = 'no cluster: this host keeps its state itself';
    return etcd.usable ? `none, ${alone}` : `none, ${alone}; NOT USABLE`;
  }
  const which = `${etcd.endpoints.join(', ')} (${etcd.own ? 'run by the plugin' : 'yours'})`;
  return etcd.usable ? `answers in ${String(etcd.answerMs ?? 0)} ms: ${which}` : `NOT USABLE: ${which}`;
}

function nodesLine({ nodes }: NodesMessage): string {
  return `${String(nodes.length)}: ${tally(
    nodes.map(({ state }) => state),
    ['alive', 'away', 'unknown'],
  )}`;
}

function volumesLine(volumes: VolumesMessage): string {
  const total = volumes.volumes.length;
  if (total === 0) return '0';
  const troubled = volumes.volumes.filter(({ status }) => (status.error ?? '') !== '').length;
  const states = tally(
    volumes.volumes.map(({ status }) => status.state ?? 'unknown'),
    [],
  );
  const trouble = troubled === 0 ? '' : `; ${String(troubled)} troubled`;
  return `${String(total)}: ${states}; ${String(attached(volumes))} attached${trouble}`;
}

function recordsLine({ recordsComplete, cache, strays = [] }: HealthMessage): string {
  if (recordsComplete === undefined) return 'not read';
  const known = recordsComplete ? 'complete' : 'INCOMPLETE';
  return `${known}; cache ${cache?.state ?? 'unknown'}; ${strays.length === 0 ? 'no strays' : count(strays.length, 'stray')}`;
}

interface RegistratorSummary {
  readonly state: 'ready' | 'catching up' | 'off';
  readonly policies: number;
  readonly registered: number;
  readonly pending: number;
}

function registratorOf({ observed }: HealthMessage): RegistratorSummary {
  const registry: RegistryMessage | null = observed?.registrator ?? null;
  if (registry === null) return { state: 'off', policies: 0, registered: 0, pending: 0 };
  const backends = Object.values(registry.backends);
  return {
    state: registry.ready ? 'ready' : 'catching up',
    policies: registry.policies.filter(({ running }) => running).length,
    registered: backends.reduce((sum, { wanted }) => sum + wanted, 0),
    pending: backends.reduce((sum, { pending }) => sum + pending, 0),
  };
}

function registratorLine({ state, policies, registered, pending }: RegistratorSummary): string {
  if (state === 'off') return 'off, or waiting for the engine';
  const kept = `${count(policies, 'policy', 'policies')}, ${count(registered, 'key')}`;
  return `${state}: ${kept}${pending === 0 ? '' : `, ${String(pending)} being written`}`;
}

function byState({ volumes }: VolumesMessage): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { status } of volumes)
    counts[status.state ?? 'unknown'] = (counts[status.state ?? 'unknown'] ?? 0) + 1;
  return counts;
}

function attached({ volumes }: VolumesMessage): number {
  return volumes.filter(({ status }) => (status.attachedTo ?? '') !== '').length;
}

/** `2 alive, 1 away`, those of the list first. */
function tally(states: readonly string[], first: readonly string[]): string {
  const kinds = [...new Set([...first, ...states])];
  const counts = kinds.map((kind) => [kind, states.filter((state) => state === kind).length] as const);
  return counts.flatMap(([kind, number]) => (number === 0 ? [] : [`${String(number)} ${kind}`])).join(', ');
}
