/** Clients of one register in the etcd of a formed cluster, on its hosts, and what they saw. */
import { join } from 'node:path';
import type { RegisterCall } from './register-history.js';
import type { LabHost, LabProcess } from './lab.js';
import { waitFor } from './exec.js';

/** What a client says as it begins a call. */
export interface Begun {
  readonly client: string;
  readonly number: number;
  readonly kind: RegisterCall['kind'];
  readonly value?: string;
  readonly expected?: string | null;
  readonly begin: number;
}

/** And as it ends. `failed`: it has had no effect, for sure. */
export interface Ended {
  readonly client: string;
  readonly number: number;
  readonly end: number;
  readonly outcome: RegisterCall['outcome'] | 'failed';
  /** What a read saw. */
  readonly value?: string | null;
  readonly why?: string;
}

export interface Register {
  /** One more process with two clients, on this host; they end with it. */
  start(host: LabHost): void;
  /** Waits until so many writes and swaps that began after now were acknowledged to clients of each of the hosts. */
  goesOn(on: readonly LabHost[], timeoutMs?: number): Promise<void>;
  stop(): Promise<void>;
  /** All that was said, once it is stopped. */
  history(): History;
}

export interface History {
  /** Without those that failed for sure. */
  readonly calls: readonly RegisterCall[];
  /** Values of those that failed for sure. */
  readonly failed: readonly string[];
  /** Why calls ended in doubt or failed, and how often. */
  readonly reasons: ReadonlyMap<string, number>;
}

/** By their paths: a process of a lab host begins in its root directory. */
const PROGRAM = ['--import', import.meta.resolve('tsx'), join(import.meta.dirname, 'register-client.ts')];
const CERTIFICATES = '/var/lib/openebs/certificates';
const PROOFS = 5;

export function createRegister(prefix: string, endpoints: readonly string[]): Register {
  const processes: { readonly host: LabHost; readonly process: LabProcess }[] = [];
  // What a read says goes on after that.
  const acknowledged = (host: LabHost) =>
    processes
      .filter((one) => one.host === host)
      .reduce((sum, { process }) => sum + process.output().split('"outcome":"ok"}').length - 1, 0);
  return {
    start(host) {
      const name = `${host.name}.${String(processes.length)}.`;
      const args = [...PROGRAM, name, prefix, CERTIFICATES, ...endpoints];
      processes.push({ host, process: host.spawn(process.execPath, args) });
    },
    async goesOn(on, timeoutMs = 60_000) {
      await Promise.all(
        on.map(async (host) => {
          const before = acknowledged(host);
          await waitFor(
            `writes of ${host.name} are acknowledged`,
            () => acknowledged(host) >= before + PROOFS,
            { timeoutMs },
          ).catch((reason: unknown) => {
            const said =
              processes
                .filter((one) => one.host === host)
                .at(-1)
                ?.process.output() ?? '';
            throw new Error(`${String(reason)}; its clients said last:\n${said.slice(-2000)}`);
          });
        }),
      );
    },
    async stop() {
      await Promise.all(processes.map(({ process }) => process.stop()));
    },
    history: () => historyOf(processes.flatMap(({ process }) => linesOf(process))),
  };
}

const nameOf = ({ client, number }: Begun | Ended): string => `${client} ${String(number)}`;

/** The last one may be cut off in the middle: with its host. */
function linesOf(process: LabProcess): (Begun | Ended)[] {
  const lines = process.output().split('\n').slice(0, -1);
  const strange = lines.find((line) => !line.startsWith('{'));
  if (strange !== undefined)
    throw new Error(`a client of the register said: ${process.output().slice(0, 3000)}`);
  return lines.map((line) => JSON.parse(line) as Begun | Ended);
}

function historyOf(lines: readonly (Begun | Ended)[]): History {
  const ends = new Map<string, Ended>();
  const reasons = new Map<string, number>();
  for (const line of lines) {
    if (!('end' in line)) continue;
    ends.set(nameOf(line), line);
    if (line.why !== undefined) {
      const why = `${line.outcome}: ${line.why.replace(/^writing \S+: |etcd at \S+( \S+\d,?)*/g, '')}`;
      reasons.set(why, (reasons.get(why) ?? 0) + 1);
    }
  }
  const calls: RegisterCall[] = [];
  const failed: string[] = [];
  for (const line of lines) {
    if (!('kind' in line)) continue;
    const end = ends.get(nameOf(line));
    if (end?.outcome === 'failed') failed.push(...(line.value === undefined ? [] : [line.value]));
    else calls.push(callOf(line, end));
  }
  return { calls, failed, reasons };
}

function callOf({ client, kind, value, expected, begin }: Begun, ended: Ended | undefined): RegisterCall {
  const outcome = ended === undefined || ended.outcome === 'failed' ? 'unknown' : ended.outcome;
  const end = ended === undefined || outcome === 'unknown' ? Infinity : ended.end;
  return {
    client,
    kind,
    value: value ?? ended?.value ?? null,
    expected: expected ?? null,
    begin,
    end,
    outcome,
  };
}

export interface StoredEntry {
  readonly value: string;
  readonly created: string;
  readonly modified: string;
}

interface RangeAnswer {
  readonly kvs?: readonly {
    readonly value: string;
    readonly create_revision: string;
    readonly mod_revision: string;
  }[];
}

/** What etcd has below the prefix, asked by the member on this host. */
export async function entriesOf(host: LabHost, prefix: string): Promise<StoredEntry[]> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
  const answer = await host.shellOk(
    `cd ${CERTIFICATES}; curl -sS --fail --cacert ca.crt --cert client.crt --key client.key ` +
      `https://127.0.0.1:23790/v3/kv/range -d '${JSON.stringify({ key: base64(prefix), range_end: base64(end) })}'`,
  );
  return ((JSON.parse(answer) as RangeAnswer).kvs ?? []).map((kv) => ({
    value: Buffer.from(kv.value, 'base64').toString(),
    created: kv.create_revision,
    modified: kv.mod_revision,
  }));
}
