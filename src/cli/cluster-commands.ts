/** The commands of the group `cluster`, in the order of the help. */
import type { Command, Option } from './command.js';
import { voterNumbers } from './values.js';

const timeout: Option = { value: 'DURATION', help: 'how long to wait until it is done (default 2m)' };
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
];
