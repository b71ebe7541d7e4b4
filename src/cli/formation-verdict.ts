/** What is wrong with how etcd is spread over the hosts: who is down, what that costs, what is being done. */
import type {
  ClusterMessage,
  FormationMessage,
  HealthMessage,
  MemberMessage,
  NodesMessage,
} from '../admin/messages.js';
import { type Finding, note, wrong } from './finding.js';
import { isComing } from './formation-view.js';
import { namesOfNodes } from './nodes.js';
import { count, few, span } from './table.js';

export interface FormationDocuments {
  readonly health: HealthMessage;
  readonly cluster: ClusterMessage;
  readonly nodes: NodesMessage;
}

/** What the findings are made from. */
interface Formed {
  readonly formation: FormationMessage;
  readonly documents: FormationDocuments;
  readonly voters: readonly MemberMessage[];
  readonly down: readonly MemberMessage[];
  readonly nameOf: (member: MemberMessage) => string;
}

/** Nothing for a host that is alone, unless its etcd is in trouble: that is how every host begins. */
export function ofFormation(documents: FormationDocuments): Finding[] {
  const { formation } = documents.cluster;
  if (formation === undefined) return [];
  const formed = formedOf(formation, documents);
  const found = [...formation.alarms.map(ofAlarm), ...ofProblem(formed), ...ofRenewal(formation)];
  if (formation.role === 'alone') return found;
  return [...found, ...ofLost(formed), ...ofMembers(formed), ...ofNumber(formed)];
}

function formedOf(formation: FormationMessage, documents: FormationDocuments): Formed {
  const nameOf = namesOfNodes(documents.nodes.nodes);
  const voters = formation.members.filter(({ role }) => role === 'voter');
  return {
    formation,
    documents,
    voters,
    down: formation.members.filter((member) => !member.healthy && !isComing(member)),
    nameOf: ({ node, id }) => (node === null ? `member ${id}` : nameOf(node)),
  };
}

/** Of an etcd that is not usable, and why; undefined where that is no matter of its members. */
export function majorityLost(documents: FormationDocuments, why: string): Finding | undefined {
  const { formation } = documents.cluster;
  if (formation === undefined || formation.role === 'alone') return undefined;
  const { voters, nameOf } = formedOf(formation, documents);
  const lost = voters.filter(({ healthy }) => !healthy);
  const alive = voters.length - lost.length;
  // With most voters up it is this host that cannot reach them.
  if (voters.length > 0 && alive >= majorityOf(voters.length)) return undefined;
  const what =
    voters.length === 0
      ? `its members cannot be asked: ${why}`
      : `the majority is lost: ${String(alive)} of ${count(voters.length, 'voter')} answering; down: ${few(lost.map(nameOf))}; here: ${why}`;
  const back = voters.length === 0 ? 'the hosts that run it' : few(lost.map(nameOf));
  const todo =
    `bring ${back} back: as soon as most of the voters answer it goes on by itself. Only if they are gone for good: ` +
    'docker openebs cluster recover, on one host that still has the data';
  const meanwhile =
    'volumes that are attached work on; none can be created, removed or attached anew. The members are left as they ' +
    'are, as nobody can tell hosts that are gone from hosts that are cut off';
  return wrong('etcd', what, todo, meanwhile);
}

const alarms: Readonly<Record<string, Finding>> = {
  NOSPACE: wrong(
    'etcd',
    'its space is used up (NOSPACE): it takes no writes, and so no new volumes, mounts or claims',
    'nothing; if it lasts for minutes, see what fills it: the log of the plugin says what is done',
    'the plugin compacts it, member by member, and then lifts the alarm; reads go on',
  ),
  CORRUPT: wrong(
    'etcd',
    'its members hold different data (CORRUPT)',
    'find which member is wrong (docker logs openebs-etcd on each host) and take that host out: docker openebs cluster ' +
      'remove-node, then join it anew; or go back to a backup: docker openebs cluster restore',
    'the plugin leaves all members as they are',
  ),
};

function ofAlarm(alarm: string): Finding {
  const known = Object.hasOwn(alarms, alarm) ? alarms[alarm] : undefined;
  return known ?? wrong('etcd', `it raises the alarm ${alarm}`, 'see docker logs openebs-etcd');
}

function ofLost({ formation: { role, doing }, documents }: Formed): Finding[] {
  if (role !== 'lost') return [];
  const { usable } = documents.cluster.etcd;
  const todo = usable
    ? 'nothing: it gets the data from the other members again'
    : "bring back the disk of /var/lib/openebs, or the other voters' hosts; docker openebs cluster restore goes back to a backup";
  return [
    wrong(
      'this host',
      'its member of etcd has lost its data',
      todo,
      doing ?? 'it is not started with nothing',
    ),
  ];
}

/** Told elsewhere when it is a problem of the plugin, or why etcd is not usable. */
function ofProblem({ formation: { problem }, documents: { health, cluster } }: Formed): Finding[] {
  if (problem === null || problem === cluster.etcd.problem) return [];
  if (Object.values(health.problems).includes(problem)) return [];
  return [wrong('etcd member', problem, 'do what it says', 'the plugin tries again by itself')];
}

function ofRenewal({ renewal = null }: FormationMessage): Finding[] {
  if (renewal === null) return [];
  const { failed, why } = renewal;
  if (!failed)
    return [
      note(
        'etcd member',
        `here runs from the image of another version than the plugin, until it is its turn: ${why}`,
        'nothing: it is looked at again every few seconds; or, where that cannot be mended: docker rm -f openebs-etcd, ' +
          'and the plugin makes it anew at once',
      ),
    ];
  return [
    wrong(
      'etcd member',
      why,
      'see docker logs openebs-etcd. Do not go back to the former version: its etcd may refuse the data',
      'the other hosts keep the members that they have',
    ),
  ];
}

function ofMembers(formed: Formed): Finding[] {
  const { formation, documents, down, nameOf } = formed;
  const strange = formation.members
    .filter(({ node }) => node === null)
    .map(({ id, peerUrl }) => note('etcd', `its member ${id} at ${peerUrl} is of no known host`));
  // Of a lost majority one finding tells all.
  if (!documents.cluster.etcd.usable) return strange;
  const starting = formation.members
    .filter(({ coming }) => coming === 'not started')
    .map((member) =>
      note(
        `node ${nameOf(member)}`,
        `its member of etcd (${member.role}) is not started yet${formation.doing === null ? '' : `; ${formation.doing}`}`,
      ),
    );
  const found = down.map((member) => {
    const silent = member.unreachableSeconds === null ? '' : ` for ${span(member.unreachableSeconds)}`;
    const what = `its member of etcd (${member.role}) does not answer${silent}`;
    const name = `node ${nameOf(member)}`;
    if (member.role === 'learner' && formation.doing !== null)
      return note(name, `${what}; ${formation.doing}`);
    return wrong(name, what, todoFor(formed), meanwhileFor(formed));
  });
  return [...found, ...starting, ...strange];
}

function todoFor(formed: Formed): string {
  const back = 'bring the host back: its member goes on by itself';
  if (hasSpare(formed)) return `${back}; if it is gone for good, nothing`;
  return `${back}; or let another host join, which takes its place; if it is gone for good: docker openebs cluster remove-node`;
}

function meanwhileFor(formed: Formed): string {
  const { formation, voters, down } = formed;
  const alive = voters.length - down.filter(({ role }) => role === 'voter').length;
  const more = alive - majorityOf(voters.length);
  const still = more > 0 ? `can lose ${String(more)} more` : 'stops when one more fails';
  const parts = [
    `etcd goes on with ${String(alive)} of ${count(voters.length, 'voter')}, and ${still}`,
    doingOf(formed) ?? replacementFor(formed),
    ...(formation.manager === null ? ['no host manages the members now'] : []),
  ];
  return parts.join('; ');
}

function replacementFor(formed: Formed): string {
  return hasSpare(formed)
    ? 'a spare host takes its place after the grace time'
    : 'there is no spare host to take its place';
}

function majorityOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

function doingOf({ formation: { doing, manager }, documents }: Formed): string | null {
  if (doing === null) return null;
  return manager === null ? doing : `${doing} (by ${namesOfNodes(documents.nodes.nodes)(manager)})`;
}

function hasSpare({ formation: { members }, documents: { nodes } }: Formed): boolean {
  return nodes.nodes.some(
    ({ id, state, drained }) =>
      state === 'alive' && drained !== true && !members.some(({ node }) => node === id),
  );
}

/** Too few voters, or an even number of them. */
function ofNumber(formed: Formed): Finding[] {
  const { formation, voters, down } = formed;
  const have = voters.length;
  const isQuiet = have === 0 || down.some(({ role }) => role === 'voter');
  if (isQuiet || have === formation.voters) return [];
  const numbers = `it has ${count(have, 'voter')} of ${String(formation.voters)} wanted`;
  const doing = doingOf(formed);
  if (doing !== null) return [note('etcd', `${numbers} for a moment: ${doing}`)];
  const todo =
    have > formation.voters ? '' : 'let more hosts join: docker openebs cluster token create prints the line';
  const spare = have - majorityOf(have);
  const outlives = `${numbers}, and outlives the loss of ${spare === 0 ? 'none' : String(spare)}`;
  // An even number outlives nothing that one less does not, and one of them more can fail.
  if (have % 2 === 0) return [wrong('etcd', outlives, todo === '' ? 'nothing: one is taken away' : todo)];
  return [note('etcd', outlives, todo)];
}
