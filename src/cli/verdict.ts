/** What is wrong with a cluster, as far as one host knows: pure, from what its plugin says of itself. */
import type {
  ClusterMessage,
  HealthMessage,
  NodeMessage,
  NodesMessage,
  VolumesMessage,
} from '../admin/messages.js';
import { type Finding, note, wrong } from './finding.js';
import { majorityLost, ofFormation } from './formation-verdict.js';
import { namesOfNodes } from './nodes.js';
import { ofObservation } from './observed-verdict.js';
import { count, few, span } from './table.js';

export interface Documents {
  readonly health: HealthMessage;
  readonly cluster: ClusterMessage;
  readonly nodes: NodesMessage;
  readonly volumes: VolumesMessage;
}

/** The gravest first: what is behind may follow from it. */
export function findingsOf(documents: Documents): Finding[] {
  const found = [
    ...ofEtcd(documents),
    ...ofFormation(documents),
    ...ofProblems(documents),
    ...ofNodes(documents),
    ...ofVolumes(documents),
    ...ofRecords(documents.health),
    ...ofStrays(documents.health),
    ...ofObservation(documents.health.observed),
    ...ofRoles(documents.health),
  ];
  return [
    ...found.filter(({ level }) => level === 'wrong'),
    ...found.filter(({ level }) => level === 'note'),
  ];
}

function ofEtcd(documents: Documents): Finding[] {
  const { cluster, health } = documents;
  if (cluster.etcd.usable) return [];
  const why = cluster.etcd.problem ?? 'it does not answer';
  const starting = health.problems['etcd'];
  const cause =
    starting === undefined || starting === why ? why : `${why}; the plugin cannot run it: ${starting}`;
  return [majorityLost(documents, cause) ?? ofUnusable(cluster, cause)];
}

function ofUnusable({ etcd }: ClusterMessage, cause: string): Finding {
  const meanwhile =
    'volumes that this host has attached work on; none can be created, removed or attached anew. ';
  if (etcd.none === true)
    return wrong(
      'state of this host',
      cause,
      'do what it says',
      `${meanwhile}The plugin tries again by itself`,
    );
  const todo = etcd.own
    ? 'mend what it names; docker logs openebs-etcd says more'
    : `mend what it names: etcd has to run at ${etcd.endpoints.join(', ')}, and this host has to reach it`;
  const again = `The plugin ${etcd.own ? 'starts it again where it has ended, and ' : ''}tries again by itself`;
  return wrong('etcd', cause, todo, meanwhile + again);
}

/** What the plugin calls its tasks, and what people call them. */
const tasks: Readonly<Record<string, string>> = {
  etcd: 'etcd',
  image: 'data-plane image',
  cluster: 'cluster record',
  'old images': 'old images',
  volumes: 'volumes',
  strays: 'search for strays',
  leftovers: 'leftover containers',
  older: 'older containers',
  mounts: 'mounts',
  node: 'node name',
};

function ofProblems({ health, cluster: { etcd } }: Documents): Finding[] {
  return Object.entries(health.problems)
    .filter(
      ([task, why]) => etcd.usable || !(task === 'etcd' || why === etcd.problem || why.includes('etcd at ')),
    )
    .map(([task, why]) =>
      wrong(
        tasks[task] ?? task,
        why,
        "do what it says; the plugin's log says more (lines with plugin= in the engine's log)",
        task === 'node' ? 'nothing is done under the wrong name' : 'the plugin tries again every 15 s',
      ),
    );
}

function ofNodes({ nodes: { nodes }, volumes: { volumes } }: Documents): Finding[] {
  const nameOf = namesOfNodes(nodes);
  const damaged = nodes
    .filter(({ error, state }) => error !== '' && state !== 'unknown')
    .map(({ id, error }) =>
      wrong(`node ${nameOf(id)}`, error, 'upgrade the plugin here, or start that of the node anew'),
    );
  const away = nodes
    .filter(({ state }) => state === 'away')
    .map((node) => ofAway(node, nameOf(node.id), volumes));
  const versions = new Set(
    nodes.map(({ pluginVersion }) => pluginVersion).filter((version) => version !== ''),
  );
  const mixed =
    versions.size > 1
      ? [note('nodes', `they run plugins of ${count(versions.size, 'version')}: ${few([...versions])}`)]
      : [];
  const drained = nodes
    .filter((node) => node.drained === true)
    .map(({ id }) =>
      note(
        `node ${nameOf(id)}`,
        'is drained: it runs no member of etcd and gets no new volumes',
        `docker openebs node drain --undo ${nameOf(id)}, when it shall again`,
      ),
    );
  return [...away, ...damaged, ...mixed, ...drained];
}

function ofAway(
  { id, self, awaySeconds }: NodeMessage,
  name: string,
  volumes: VolumesMessage['volumes'],
): Finding {
  const since = awaySeconds === null ? '' : ` for ${span(awaySeconds)} at least`;
  if (self) {
    const todo = 'see why it cannot be written: lines with "the record of this node" in the plugin\'s log';
    return wrong(
      'this node',
      `has no sign of life in etcd${since}`,
      todo,
      'other hosts may take over its volumes',
    );
  }
  const kept = volumes.filter(({ status }) => status.node === id).map((volume) => volume.name);
  const held = volumes.filter(({ status }) => status.attachedTo === id).map((volume) => volume.name);
  const data = kept.length > 0 ? `; the data of ${count(kept.length, 'volume')} is there: ${few(kept)}` : '';
  const taken =
    held.length > 0 ? `${few(held)} can be taken over by a mount elsewhere after FAILOVER_AFTER` : '';
  return wrong(
    `node ${name}`,
    `is away${since}${data}`,
    'bring it back: its engine has to run, and the plugin to be enabled; there, docker openebs doctor tells what is amiss',
    taken,
  );
}

function ofVolumes({ volumes: { volumes }, nodes: { nodes }, cluster }: Documents): Finding[] {
  const nameOf = namesOfNodes(nodes);
  const troubled = volumes.filter(({ status }) => (status.error ?? '') !== '');
  const busy = volumes.filter(
    ({ status }) =>
      (status.error ?? '') === '' && (status.state === 'creating' || status.state === 'removing'),
  );
  return [
    ...troubled.map(({ name, status: { state = 'unknown', node = '', error = '' } }) =>
      wrong(
        `volume ${name}`,
        `${state}${node === '' ? '' : `, its data on ${nameOf(node)}${node === cluster.node ? ' (this host)' : ''}`}: ${error}`,
        `docker openebs volume inspect ${name} shows all of it`,
      ),
    ),
    ...busy.map(({ name, status: { state = '', node = '' } }) =>
      note(`volume ${name}`, `${state}${node === '' ? '' : `, by node ${nameOf(node)}`}`),
    ),
  ];
}

function ofRecords({ recordsComplete, cache }: HealthMessage): Finding[] {
  const found: Finding[] = [];
  if (recordsComplete === false) {
    const meanwhile = 'volumes that it does not know are answered as errors, not as missing';
    found.push(
      wrong('records', 'this host does not know all volumes', 'nothing, once etcd answers', meanwhile),
    );
  }
  if (cache?.state === 'damaged')
    found.push(
      wrong('cache', cache.reason, 'check the disk of /var/lib/openebs; it is read anew when etcd answers'),
    );
  if (cache?.state === 'rebuilt') found.push(note('cache', `${cache.reason}; read anew from etcd`));
  return found;
}

function ofStrays({ strays = [] }: HealthMessage): Finding[] {
  return strays.map(({ what, hint }) =>
    wrong('stray', `${what} belongs to no volume`, hint, 'the plugin removes none of it'),
  );
}

function ofRoles({ image, repairs = [] }: HealthMessage): Finding[] {
  // That of etcd has its turn, and a finding of its own.
  const older = (image?.older ?? [])
    .map(({ container }) => container)
    .filter((container) => container !== 'openebs-etcd');
  const last = repairs.at(-1);
  return [
    ...(older.length > 0
      ? [
          note(
            'upgrade',
            `in use, and so of an older image still: ${few(older)}`,
            'nothing: they are renewed when nobody uses them',
          ),
        ]
      : []),
    ...(last
      ? [
          note(
            'repairs',
            `${count(repairs.length, 'repair')} since the plugin's start, the last ${last.time}: ${last.container}: ${last.what}`,
          ),
        ]
      : []),
  ];
}
