/** The commands of the group `cluster`, in the order of the help. */
import type { Command, Option } from './command.js';
import { voterNumbers } from './values.js';

const timeout: Option = { value: 'DURATION', help: 'how long to wait until it is done (default 2m)' };
const confirm: Option = { value: 'ID', help: "the cluster's ID, instead of the question for it" };
const asks = "Asks for the cluster's ID to be typed.";
const discoveries = ['token', 'static:', 'dns:', 'multicast', 'swarm', 'unix:'];

export const clusterCommands: readonly Command[] = [
  {
    words: ['cluster', 'status'],
    summary: 'What is wrong and what to do, at a glance',
    details:
      'The cluster as this host sees it. Ends with 0 when all is well and with 1 when something is wrong, so that\n' +
      'scripts can ask. What troubles a volume is known to the host that serves it, and to those that mount it.',
    options: {},
    load: async () => (await import('./cluster-status.js')).showStatus,
  },
  {
    words: ['cluster', 'init'],
    summary: 'Make this host one that others can join, and print the line they join with',
    details:
      'Volumes and containers are not disturbed; the plugin starts anew. Asked again it prints another line, and\n' +
      'changes nothing.',
    options: {
      advertise: {
        value: 'ADDR',
        required: true,
        help: 'IP address of this host that the other hosts reach',
      },
      voters: {
        value: 'NUMBER',
        completes: voterNumbers,
        help: 'hosts that run a member of etcd: 1, 3 or 5; 3 outlive the loss of one, 5 of two (default 3)',
      },
      timeout,
    },
    load: async () => (await import('./cluster/init.js')).initCluster,
  },
  {
    words: ['cluster', 'join'],
    summary: 'Join the cluster that has made the token',
    details:
      'With - the token is read from the input, so that it is neither in the list of processes nor in the history\n' +
      'of the shell. Without --discovery hosts of the cluster are looked for where the token says.',
    names: { label: 'TOKEN', atLeast: 1, atMost: 1, completes: 'nothing' },
    options: {
      advertise: {
        value: 'ADDR',
        help: 'IP address of this host for the others (default: the one that reaches them)',
      },
      discovery: {
        value: 'SPEC',
        completes: discoveries,
        help: 'how to find them: token, static:HOST[:PORT],..., dns:NAME, multicast, swarm, unix:PATH',
      },
      timeout,
    },
    load: async () => (await import('./cluster/join.js')).joinCluster,
  },
  {
    words: ['cluster', 'token', 'create'],
    summary: 'Print a line that other hosts join with',
    options: {
      ttl: { value: 'DURATION', help: 'how long it is good, 1m to 7d (default 1h)' },
      quiet: { short: 'q', help: 'the token alone' },
    },
    load: async () => (await import('./cluster/tokens.js')).makeToken,
  },
  {
    words: ['cluster', 'token', 'ls'],
    summary: 'List the tokens that are good still',
    options: { quiet: { short: 'q', help: 'IDs alone' } },
    load: async () => (await import('./cluster/tokens.js')).listTokens,
  },
  {
    words: ['cluster', 'token', 'revoke'],
    summary: 'Let nobody join with these tokens any more',
    details: 'Hosts that have joined stay.',
    names: { label: 'ID', atLeast: 1, atMost: Infinity, completes: 'tokens' },
    options: {},
    load: async () => (await import('./cluster/tokens.js')).revokeTokens,
  },
  {
    words: ['cluster', 'leave'],
    summary: 'Let this host leave its cluster for one of its own',
    details:
      'Refused while volumes have their data here, or are attached here, or the cluster cannot be asked: what is in\n' +
      'the way is named. With --force the cluster loses those volumes.',
    options: {
      force: { help: 'leave though volumes of the cluster are lost, or it cannot be asked' },
      timeout,
    },
    load: async () => (await import('./cluster/leave.js')).leaveCluster,
  },
  {
    words: ['cluster', 'remove-node'],
    summary: 'Remove a host that does not come back',
    details:
      'NODE is an ID, the beginning of one, or a host name. Refused while the host is alive or volumes are in the way:\n' +
      'what is in the way is named.',
    names: { label: 'NODE', atLeast: 1, atMost: 1, completes: 'nodes' },
    options: { force: { help: 'remove it though volumes with their data there are lost' } },
    load: async () => (await import('./node-settings.js')).removeNode,
  },
  {
    words: ['cluster', 'voters'],
    summary: 'Set how many hosts run a voting member of etcd: 1, 3 or 5',
    names: { label: 'NUMBER', atLeast: 1, atMost: 1, completes: voterNumbers },
    options: {},
    load: async () => (await import('./cluster/voters.js')).setVoters,
  },
  {
    words: ['cluster', 'backup'],
    summary: 'Back up what the cluster has recorded, into a file on this host',
    details: 'The records of volumes and all else that is in etcd, not the data of volumes.',
    options: {},
    load: async () => (await import('./cluster/backups.js')).makeBackup,
  },
  {
    words: ['cluster', 'backup', 'ls'],
    summary: 'List the backups on this host, the newest first',
    options: { quiet: { short: 'q', help: 'paths alone' } },
    load: async () => (await import('./cluster/backups.js')).listBackups,
  },
  {
    words: ['cluster', 'restore'],
    summary: 'Go back to a backup: all that was recorded since is lost',
    details: `FILE is a path on this host. ${asks}`,
    names: { label: 'FILE', atLeast: 1, atMost: 1, completes: 'backups' },
    options: { confirm, timeout },
    load: async () => (await import('./cluster/recover.js')).restoreCluster,
  },
  {
    words: ['cluster', 'recover'],
    summary: 'Begin anew with what this host has, when most voters are lost for good',
    details: `On one host alone, the one with the newest data; the others follow it.\n${asks}`,
    options: { confirm, timeout },
    load: async () => (await import('./cluster/recover.js')).recoverCluster,
  },
  {
    words: ['cluster', 'down'],
    summary: 'Take the whole cluster down; data is kept',
    details:
      'Every host stops what serves volumes, then etcd, and disables its plugin. Refused while containers use volumes or a\n' +
      'host is away: what is in the way is named. "docker plugin enable openebs" on the hosts brings the cluster back.\n' +
      `--purge removes the volumes and all data as well. ${asks}`,
    options: {
      purge: { help: 'remove all volumes with their data, and all that is recorded' },
      force: { help: 'though hosts are away: what they have stays' },
      confirm,
      timeout: { value: 'DURATION', help: 'how long to wait until it is done (default 5m)' },
    },
    load: async () => (await import('./cluster/down.js')).endCluster,
  },
];
