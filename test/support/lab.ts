/**
 * Lab hosts: Docker hosts of their own on this machine, for tests.
 *
 * A lab host is one process tree in namespaces of its own: pid, mount, network and UTS. Its /var/lib, /run and
 * /etc/docker are folders of a directory on disk, so its engine has its own data, sockets and identity, and
 * nothing of it meets the machine's engine. What is shared is the kernel: loop devices, cgroups, the clock.
 *
 * The namespaces are anonymous and hang on one process, the host's init. That makes the end certain: killing
 * init makes the kernel kill every process of the host (engine, containerd, shims, containers, whatever those
 * started), and with the last of them go its mounts and network interfaces. Init itself is killed by the kernel
 * when the process that made it dies (parent death signal), so a test run that is killed leaves no process, mount
 * or interface behind. What can stay (the directory, loop devices, empty cgroups) carries the run's pid and
 * start time in its name and is swept by the next run: lab-leftovers.ts.
 *
 * The hosts of one run hang on one bridge, which lives in a network namespace of its own as well: the machine's
 * own network shows nothing of the lab. Cutting a host off takes its bridge port down.
 *
 * A reboot is the same kill, an emptied /run and a new init over the same directories.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type ExecOptions, exec, failure, type Result, waitFor } from './exec.js';
import {
  cgroupPrefix,
  detachLoops,
  labRoot,
  type Loop,
  loopsOf,
  pluginIds,
  processesOf,
  removeCgroups,
  runStamp,
  sweepDeadRuns,
} from './lab-leftovers.js';
import { engineFolder, seedEngineData } from './lab-seed.js';

export interface LabOptions {
  readonly name?: string;
  readonly engineArgs?: readonly string[];
  /** The engine's data-root, a file system of its own beside /var/lib, named below the host's directory. */
  readonly dataRoot?: string;
  /** Shell that runs while the host boots, before its engine starts. */
  readonly bootScript?: string;
  /** Names in /dev that this host lacks, as patterns of the shell: `fuse`, `loop*`. */
  readonly missingDevices?: readonly string[];
  /** Begin with an engine that has the test images (default true). */
  readonly images?: boolean;
  /** Begin with an engine that has the built plugin installed as `openebs`, not enabled (default false). */
  readonly plugin?: boolean;
}

export interface LabHost {
  readonly name: string;
  /** The host's /run and /var/lib as seen from outside. */
  readonly run: string;
  readonly lib: string;
  readonly dir: string;
  /** Address on the lab's bridge. */
  readonly address: string;
  readonly socket: string;
  /** The engine's, as seen from outside and on the host. */
  readonly dataRoot: string;
  docker(...args: string[]): Promise<Result>;
  /** The same, but a failure throws with all that docker said. Answers standard output, trimmed. */
  ok(...args: string[]): Promise<string>;
  /** Compose, version 2 or 1, whichever the machine has, in `cwd`. */
  compose(cwd: string, ...args: string[]): Promise<Result>;
  /** A shell script as root of this host, on the host itself: its pids, mounts, network. */
  shell(script: string, options?: ExecOptions): Promise<Result>;
  shellOk(script: string, options?: ExecOptions): Promise<string>;
  /** A long-running process on this host. It ends with the host, or by `stop`. */
  spawn(command: string, args: readonly string[]): LabProcess;
  pluginPid(name?: string): Promise<number>;
  /** SIGKILL to the plugin's main process; answers the pid it had. */
  killPlugin(name?: string): Promise<number>;
  stopEngine(options?: { signal?: 'SIGTERM' | 'SIGKILL'; timeoutMs?: number }): Promise<void>;
  startEngine(): Promise<void>;
  /** Every process of the host is killed at once; it stays so until `powerOn`. */
  powerOff(): Promise<void>;
  powerOn(prepare?: () => Promise<void>): Promise<void>;
  /** `prepare` runs when /run is empty and nothing is started yet. */
  reboot(prepare?: () => Promise<void>): Promise<void>;
  /** Take the host off the lab's network, and put it back. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  /** The engine's log, which holds the plugin's log too. */
  log(): string;
  loops(): Promise<Loop[]>;
  processes(): number[];
  close(): Promise<void>;
}

export interface LabProcess {
  output(): string;
  readonly ended: Promise<number>;
  stop(): Promise<void>;
}

/**
 * Arguments for every host's engine, and a folder of unpacked packages (plugin/test-engines.sh) whose /usr is laid
 * over the machine's inside every host: another engine, with its own containerd, runc and libraries.
 */
const engineArgs = (process.env['LAB_ENGINE_ARGS'] ?? '').split(' ').filter((arg) => arg !== '');
/** For the few tests whose subject is what an engine without live-restore does. */
export const liveRestore = engineArgs.includes('--live-restore');

/**
 * An engine that is killed within the second in which it starts the plugin may end with a panic at its next start: it
 * asks a plugin that it could not enable (20.10). Its service manager starts it again (Restart=always in
 * docker.service), and so does the lab.
 */
const GO_PANIC = 2;
const ENGINE_STARTS = 3;

const runDir = join(labRoot, runStamp());
const hosts = new Set<{ kill: () => void }>();
let prepared: Promise<Switch> | undefined;
let count = 0;

process.on('exit', () => {
  for (const host of hosts) host.kill();
  if (hosts.size > 0) rmSync(runDir, { recursive: true, force: true });
});

interface Switch {
  readonly pid: number;
}

function tail(text: string, lines = 30): string {
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** The bridge's network namespace; dies with this process. */
async function makeSwitch(): Promise<Switch> {
  await sweepDeadRuns();
  mkdirSync(runDir, { recursive: true });
  mkdirSync('/etc/docker', { recursive: true }); // only a place to bind each host's own folder on
  const script =
    'ip link set lo up && ip link add br0 type bridge && ip addr add 10.99.0.254/24 dev br0 && ' +
    'ip link set br0 up && exec sleep infinity';
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--net', 'sh', '-c', script], {
    stdio: 'ignore',
  });
  child.unref();
  const pid = child.pid;
  if (pid === undefined) throw new Error('no process for the lab network: are setpriv and unshare there?');
  hosts.add({ kill: () => child.kill('SIGKILL') });
  await waitFor('the lab network is up', async () => {
    const { code, stdout } = await exec('nsenter', [
      `--net=/proc/${String(pid)}/ns/net`,
      'ip',
      'link',
      'show',
      'br0',
    ]);
    return code === 0 && stdout.includes(',UP');
  });
  return { pid };
}

export async function startLabHost(options: LabOptions = {}): Promise<LabHost> {
  prepared ??= makeSwitch();
  const lan = await prepared;
  count += 1;
  const host = new Host(options, lan, count);
  try {
    if (options.images !== false || options.plugin === true) {
      await seedEngineData(host.dataRoot, {
        images: options.images !== false,
        plugin: options.plugin === true,
        startBare: (name) => startLabHost({ name, images: false }),
      });
    }
    await host.boot();
    await host.startEngine();
    return host;
  } catch (reason) {
    await host.close();
    throw reason;
  }
}

class Host implements LabHost {
  readonly name: string;
  readonly dir: string;
  readonly run: string;
  readonly lib: string;
  readonly address: string;
  readonly socket: string;
  /** As seen from outside. */
  readonly dataRoot: string;
  private readonly options: LabOptions;
  private readonly lan: Switch;
  private readonly port: string;
  private readonly cgroup: string;
  private readonly logFile: string;
  private holder: ChildProcess | undefined;
  private init = 0;

  constructor(options: LabOptions, lan: Switch, index: number) {
    this.options = options;
    this.lan = lan;
    this.name = options.name ?? `host${String(index)}`;
    this.dir = join(runDir, `${String(index)}-${this.name}`);
    this.run = join(this.dir, 'run');
    this.lib = join(this.dir, 'lib');
    this.socket = join(this.run, 'docker.sock');
    this.dataRoot =
      options.dataRoot === undefined ? join(this.lib, 'docker') : join(this.dir, options.dataRoot);
    this.logFile = join(this.dir, 'engine.log');
    this.address = `10.99.0.${String(index)}`;
    this.port = `p${String(index)}`;
    this.cgroup = `${cgroupPrefix}${runStamp()}-${String(index)}`;
    for (const folder of ['run', 'lib', 'etc', 'dev']) mkdirSync(join(this.dir, folder), { recursive: true });
    hosts.add(this);
  }

  /** Makes the namespaces and init; no engine yet. */
  async boot(): Promise<void> {
    const script = `
      hostname ${this.name}
      ${engineFolder === undefined ? '' : `mount -t overlay -o lowerdir=${engineFolder}/usr:/usr engine /usr`}
      mount --bind ${this.lib} /var/lib
      mount --bind ${this.run} /run
      mount --bind ${this.dir}/etc /etc/docker
      ${this.deviceScript()}
      ${this.options.dataRoot === undefined ? '' : `mkdir -p ${this.dataRoot}; mount --bind ${this.dataRoot} ${this.dataRoot}`}
      ${this.options.bootScript ?? ''}
      ip link set lo up
      touch ${this.dir}/booted
      exec docker-init -s -- sleep infinity`;
    rmSync(join(this.dir, 'booted'), { force: true });
    const unshare = [
      'unshare',
      '--fork',
      '--kill-child',
      '--mount',
      '--uts',
      '--net',
      '--pid',
      '--mount-proc',
    ];
    const out = openSync(this.logFile, 'a');
    const holder = spawn('setpriv', ['--pdeathsig', 'KILL', ...unshare, 'sh', '-ec', script], {
      stdio: ['ignore', out, out],
    });
    closeSync(out);
    holder.unref();
    this.holder = holder;
    const pid = holder.pid;
    if (pid === undefined) throw new Error('cannot start a lab host: are setpriv and unshare installed?');
    this.init = await waitFor(`${this.name} has an init`, () => {
      if (holder.exitCode !== null) throw new Error(`it ended at once:\n${tail(this.log())}`);
      const child = Number(readText(`/proc/${String(pid)}/task/${String(pid)}/children`)?.trim() ?? '');
      return child > 0 && readText(join(this.dir, 'booted')) !== undefined && child;
    });
    await this.plugIn();
  }

  /** A /dev without the missing devices: its own tmpfs, with everything else bound into it. */
  private deviceScript(): string {
    const missing = this.options.missingDevices;
    if (missing === undefined) return '';
    const dev = join(this.dir, 'dev');
    return `
      mount -t tmpfs -o mode=755 dev ${dev}
      for path in /dev/*; do
        name=\${path##*/}
        case "$name" in ${missing.join('|')}) continue ;; esac
        if [ -L "$path" ]; then cp -P "$path" ${dev}/; continue; fi
        if [ -d "$path" ]; then mkdir ${dev}/$name; mount --rbind "$path" ${dev}/$name; continue; fi
        cp -a "$path" ${dev}/
      done
      mount --rbind ${dev} /dev`;
  }

  private dataRootArgs(): string[] {
    return this.options.dataRoot === undefined ? [] : ['--data-root', this.dataRoot];
  }

  private async plugIn(): Promise<void> {
    const inHost = ['nsenter', `--net=/proc/${String(this.init)}/ns/net`, 'ip'];
    const inLan = ['nsenter', `--net=/proc/${String(this.lan.pid)}/ns/net`, 'ip'];
    const pair = [
      'link',
      'add',
      'eth0',
      'netns',
      String(this.init),
      'type',
      'veth',
      'peer',
      'name',
      this.port,
    ];
    // After a power cut the kernel takes its time to end what was on the host: its end of the pair may still be here.
    await exec('nsenter', [...inLan.slice(1), 'link', 'del', this.port]);
    const steps = [
      [...inLan, ...pair],
      [...inLan, 'link', 'set', this.port, 'master', 'br0', 'up'],
      [...inHost, 'addr', 'add', `${this.address}/24`, 'dev', 'eth0'],
      [...inHost, 'link', 'set', 'eth0', 'up'],
      [...inHost, 'route', 'add', 'default', 'via', '10.99.0.254'],
    ];
    for (const [command = '', ...args] of steps) {
      const result = await exec(command, args);
      if (result.code !== 0) throw new Error(failure(`${command} ${args.join(' ')}`, result));
    }
  }

  private enter(): string[] {
    return ['--target', String(this.init), '--mount', '--uts', '--net', '--pid'];
  }

  async startEngine(): Promise<void> {
    for (let left = ENGINE_STARTS; ; left--) {
      const engine = this.spawnEngine();
      try {
        await waitFor(
          `the engine of ${this.name} answers`,
          async () => (await this.docker('version', '--format', '{{.Server.Version}}')).code === 0,
          { timeoutMs: 90_000, giveUp: () => engine.exitCode !== null || engine.signalCode !== null },
        );
        return;
      } catch (reason) {
        if (engine.exitCode !== GO_PANIC || left === 1)
          throw new Error(`${String(reason)}\nend of its log:\n${tail(this.log())}`);
        await this.untilGone(this.enginePids());
      }
    }
  }

  private spawnEngine(): ChildProcess {
    const args = [
      '--cgroup-parent',
      `/${this.cgroup}`,
      ...engineArgs,
      ...this.dataRootArgs(),
      ...(this.options.engineArgs ?? []),
    ];
    const out = openSync(this.logFile, 'a');
    // A session of its own: an interrupt at the terminal goes to the test run, which then ends the host.
    const engine = spawn('nsenter', [...this.enter(), 'dockerd', ...args], {
      stdio: ['ignore', out, out],
      detached: true,
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
    });
    closeSync(out);
    engine.unref();
    return engine;
  }

  private enginePids(): string[] {
    return ['docker.pid', 'docker/containerd/containerd.pid']
      .map((file) => readText(join(this.run, file))?.trim())
      .filter((pid) => pid !== undefined);
  }

  /** A new dockerd that finds the old one, or its containerd, still going fails to start. */
  private async untilGone(pids: readonly string[], timeoutMs = 90_000): Promise<void> {
    const gone = pids.map((pid) => `! kill -0 ${pid} 2>/dev/null`).join(' && ');
    await waitFor(`the engine of ${this.name} has stopped`, async () => (await this.shell(gone)).code === 0, {
      timeoutMs,
    }).catch((reason: unknown) => {
      throw new Error(`${String(reason)}\nend of its log:\n${tail(this.log())}`);
    });
    rmSync(join(this.run, 'docker.pid'), { force: true });
  }

  async stopEngine(options: { signal?: 'SIGTERM' | 'SIGKILL'; timeoutMs?: number } = {}): Promise<void> {
    const engine = readText(join(this.run, 'docker.pid'))?.trim();
    if (engine === undefined) throw new Error(`the engine of ${this.name} is not running`);
    const pids = this.enginePids();
    await this.shellOk(`kill -${(options.signal ?? 'SIGTERM').slice(3)} ${engine}`);
    await this.untilGone(pids, options.timeoutMs);
  }

  async reboot(prepare?: () => Promise<void>): Promise<void> {
    await this.powerOff();
    await this.powerOn(prepare);
  }

  async powerOff(): Promise<void> {
    await this.end();
  }

  async powerOn(prepare?: () => Promise<void>): Promise<void> {
    for (const name of readdirSync(this.run)) rmSync(join(this.run, name), { recursive: true, force: true });
    await prepare?.();
    await this.boot();
    await this.startEngine();
  }

  docker(...args: string[]): Promise<Result> {
    return exec('docker', ['-H', `unix://${this.socket}`, ...args], { timeoutMs: 180_000 });
  }

  async ok(...args: string[]): Promise<string> {
    const result = await this.docker(...args);
    if (result.code !== 0) throw new Error(failure(`docker ${args.join(' ')}`, result));
    return result.stdout.trim();
  }

  async compose(cwd: string, ...args: string[]): Promise<Result> {
    const env = { DOCKER_HOST: `unix://${this.socket}`, COMPOSE_HTTP_TIMEOUT: '120' };
    const plugin = (await exec('docker', ['compose', 'version'])).code === 0;
    const [command, first] = plugin ? ['docker', ['compose']] : ['docker-compose', []];
    return exec(command, [...first, ...args], { cwd, env, timeoutMs: 180_000 });
  }

  shell(script: string, options: ExecOptions = {}): Promise<Result> {
    return exec('nsenter', [...this.enter(), 'sh', '-ec', script], { timeoutMs: 60_000, ...options });
  }

  async shellOk(script: string, options: ExecOptions = {}): Promise<string> {
    const result = await this.shell(script, options);
    if (result.code !== 0) throw new Error(failure(`on ${this.name}: ${script}`, result));
    return result.stdout.trim();
  }

  spawn(command: string, args: readonly string[]): LabProcess {
    const child = spawn('nsenter', [...this.enter(), command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
    const ended = new Promise<number>((resolve) => {
      child.on('error', (reason) => {
        output += reason.message;
        resolve(127);
      });
      child.on('close', (code) => {
        resolve(code ?? 128);
      });
    });
    const stop = async (): Promise<void> => {
      // nsenter does not hand signals on: end what it forked.
      const pid = String(child.pid ?? 0);
      const inner = readText(`/proc/${pid}/task/${pid}/children`)?.trim();
      if (inner !== undefined && inner !== '') process.kill(Number(inner), 'SIGTERM');
      await ended;
    };
    return { output: () => output, ended, stop };
  }

  async pluginPid(name = 'openebs'): Promise<number> {
    const id = await this.ok('plugin', 'inspect', name, '--format', '{{.Id}}');
    const tasks = 'docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby';
    const pid = readText(join(this.run, tasks, id, 'init.pid'));
    if (pid === undefined) throw new Error(`the plugin ${name} has no process: is it enabled?`);
    return Number(pid);
  }

  async killPlugin(name?: string): Promise<number> {
    const pid = await this.pluginPid(name);
    await this.shellOk(`kill -KILL ${String(pid)}`);
    return pid;
  }

  async cut(): Promise<void> {
    await this.link('down');
  }

  async mend(): Promise<void> {
    await this.link('up');
  }

  private async link(state: 'up' | 'down'): Promise<void> {
    const net = `--net=/proc/${String(this.lan.pid)}/ns/net`;
    const result = await exec('nsenter', [net, 'ip', 'link', 'set', this.port, state]);
    if (result.code !== 0) throw new Error(failure(`ip link set ${this.port} ${state}`, result));
  }

  log(): string {
    return readText(this.logFile) ?? '';
  }

  loops(): Promise<Loop[]> {
    return loopsOf(this.init, this.dir);
  }

  processes(): number[] {
    return this.init === 0 ? [] : processesOf(this.init);
  }

  private isUp(): boolean {
    return this.holder?.exitCode === null && this.holder.signalCode === null;
  }

  /** Power off: every process of the host is killed at once. */
  kill(): void {
    if (this.init > 0 && this.isUp()) {
      try {
        process.kill(this.init, 'SIGKILL');
      } catch {
        // it was gone already
      }
    } else {
      this.holder?.kill('SIGKILL');
    }
  }

  private async end(): Promise<void> {
    const left = this.init === 0 ? [] : await this.loops();
    this.kill();
    await waitFor(`all processes of ${this.name} are gone`, () => !this.isUp(), { timeoutMs: 60_000 });
    this.init = 0;
    await detachLoops(left);
  }

  async close(): Promise<void> {
    if (!hosts.has(this)) return;
    await this.end();
    for (const name of [this.cgroup, ...pluginIds(this.dataRoot)]) removeCgroups(name);
    if (process.env['LAB_KEEP'] === undefined) rmSync(this.dir, { recursive: true, force: true });
    hosts.delete(this);
    try {
      rmdirSync(runDir); // the last one out
    } catch {
      // not the last one
    }
  }
}
