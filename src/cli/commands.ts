/** All commands, in the order of the help. README.md has a row for each, and a test compares. */
import { clusterCommands } from './cluster-commands.js';
import type { Command, Option } from './command.js';

/** Of every command. */
export const commonOptions = {
  format: { value: 'FORMAT', completes: ['table', 'json'], help: 'table, or json for programs' },
  socket: { value: 'PATH', help: 'the admin socket of the plugin (default /run/openebs/admin.sock)' },
  help: { short: 'h', help: 'show this text' },
} as const satisfies Record<string, Option>;

const quiet = { short: 'q', help: 'names alone' } as const;

export const commands: readonly Command[] = [
  ...clusterCommands,
  {
    words: ['node', 'ls'],
    summary: 'List the hosts of the cluster',
    options: { quiet: { ...quiet, help: 'IDs alone' } },
    load: async () => (await import('./nodes.js')).listNodes,
  },
  {
    words: ['node', 'inspect'],
    summary: 'Show all that is known of hosts',
    details: 'NODE is an ID, the beginning of one, or a host name.',
    names: { label: 'NODE', atLeast: 1, atMost: Infinity, completes: 'nodes' },
    options: {},
    load: async () => (await import('./nodes.js')).inspectNodes,
  },
  {
    words: ['node', 'label'],
    summary: 'Set labels of a host, or remove them',
    details: 'KEY=VALUE sets a label, KEY- removes it. NODE is an ID, the beginning of one, or a host name.',
    names: { label: 'NODE KEY=VALUE', atLeast: 2, atMost: Infinity, completes: 'nodes', firstOnly: true },
    options: {},
    load: async () => (await import('./node-settings.js')).labelNode,
  },
  {
    words: ['node', 'drain'],
    summary: 'Let a host run no member of etcd and get no new volumes',
    details:
      'Its volumes stay where they are, and in use. NODE is an ID, the beginning of one, or a host name.',
    names: { label: 'NODE', atLeast: 1, atMost: 1, completes: 'nodes' },
    options: { undo: { help: 'let it have them again' } },
    load: async () => (await import('./node-settings.js')).drainNode,
  },
  {
    words: ['volume', 'ls'],
    summary: 'List the volumes of the cluster',
    details:
      'Filters: name=TEXT (a part of it), state=creating|ready|removing|unreadable, node=NODE (has the data),\n' +
      'attached=NODE, fs=FS, pool=POOL, troubled=true|false. Of several with one key one has to fit, of different\n' +
      'keys all.',
    options: {
      filter: { short: 'f', value: 'KEY=VALUE', repeats: true, help: 'only those that fit' },
      quiet,
    },
    load: async () => (await import('./volumes.js')).listVolumes,
  },
  {
    words: ['volume', 'inspect'],
    summary: 'Show all that is known of volumes',
    names: { label: 'NAME', atLeast: 1, atMost: Infinity, completes: 'volumes' },
    options: {},
    load: async () => (await import('./volumes.js')).inspectVolumes,
  },
  {
    words: ['events'],
    summary: 'Show what happened: the Docker events of all hosts',
    details:
      'The newest last. A time is written 2026-01-02T03:04:05Z, as seconds since 1970, or as how long ago: 10m, 1h30m.\n' +
      'With --format json one event a line.',
    options: {
      since: { value: 'TIME', help: 'from then on' },
      until: { value: 'TIME', help: 'up to then' },
      type: {
        value: 'TYPE',
        repeats: true,
        completes: ['container', 'image', 'plugin', 'volume', 'network', 'daemon', 'journal'],
        help: 'container, image, plugin, volume, network, daemon; journal: what the journal says of itself',
      },
      action: { value: 'ACTION', repeats: true, help: 'like start, die, mount' },
      actor: { value: 'OBJECT', help: 'ID or name of a container, volume ...' },
      node: { value: 'NODE', completes: 'nodes', help: 'of one host alone' },
      limit: { short: 'n', value: 'NUMBER', help: 'at most so many, the newest (default 1000, up to 10000)' },
    },
    load: async () => (await import('./events.js')).showEvents,
  },
  {
    words: ['doctor'],
    summary: 'Check this host, and what it reaches of the others, and say what to do',
    details:
      'Needs neither the plugin nor etcd, and changes nothing but a temporary file for the speed of the disk. Ends\n' +
      'with 1 when a check fails. Run it as root.',
    options: {},
    load: async () => (await import('./doctor/doctor.js')).examine,
  },
  {
    words: ['version'],
    summary: 'Show the versions of this program and of the plugin',
    options: {},
    load: async () => (await import('./version.js')).showVersion,
  },
  {
    words: ['completion'],
    summary: 'Print a script for your shell that completes commands and names',
    details: 'In ~/.bashrc:  source <(docker openebs completion bash)',
    names: { label: 'SHELL', atLeast: 1, atMost: 1, completes: ['bash', 'zsh'] },
    options: {},
    load: async () => (await import('./completion-script.js')).printScript,
  },
];
