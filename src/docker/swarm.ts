/** The Docker Swarm that an engine is part of, as far as its nodes go. */
import Docker from 'dockerode';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { call } from './engine-call.js';

export interface SwarmNode {
  /** Where its connection to a manager came from: an IP address, which may be 0.0.0.0 or 127.0.0.1 for a leader. */
  readonly address: string;
  /** What it advertises, `HOST:PORT` of Swarm's; null for a worker. */
  readonly managerAddress: string | null;
  readonly isReady: boolean;
}

export interface EngineSwarm {
  /**
   * All nodes; of a worker, which may not ask for them, the managers.
   * @throws AppError `unavailable` when the engine does not answer, is part of no Swarm, or has no manager with a leader.
   */
  nodes(ctx: Ctx): Promise<readonly SwarmNode[]>;
}

/** What an engine says that is no manager. One that has no leader at the moment says something else with the same status. */
const NO_MANAGER = /not (a swarm manager|part of a swarm)/i;
const TIMEOUT_MS = 15_000;

export function createEngineSwarm(socketPath: string, timeoutMs = TIMEOUT_MS): EngineSwarm {
  // The double cast: see Calls.
  const swarm = new Docker({ socketPath }) as unknown as Calls;
  return {
    nodes: (ctx) => call(ctx, 'list the nodes of the Swarm', (signal) => nodesOf(swarm, signal), timeoutMs),
  };
}

/** By its own words: what the package puts in front of them says of every 503 of some calls that there is no swarm. */
export function saysNoManager(reason: unknown): boolean {
  return NO_MANAGER.test(wordsOf(reason));
}

function wordsOf(reason: unknown): string {
  const { json } = reason as { json?: { message?: unknown } | null };
  return typeof json?.message === 'string' ? json.message : '';
}

/** The types of the package leave out the abort signal. What each answers is the engine API's. */
interface Calls {
  listNodes(options: { abortSignal: AbortSignal }): Promise<readonly ListedNode[] | null>;
  info(options: { abortSignal: AbortSignal }): Promise<{ readonly Swarm?: SwarmInfo | null }>;
}

interface ListedNode {
  readonly Status?: { readonly Addr?: string; readonly State?: string };
  readonly ManagerStatus?: { readonly Addr?: string } | null;
}

interface SwarmInfo {
  readonly LocalNodeState?: string;
  readonly RemoteManagers?: readonly { readonly Addr?: string }[] | null;
}

async function nodesOf(swarm: Calls, abortSignal: AbortSignal): Promise<readonly SwarmNode[]> {
  try {
    const nodes = (await swarm.listNodes({ abortSignal })) ?? [];
    return nodes.map(({ Status, ManagerStatus }) => ({
      address: Status?.Addr ?? '',
      managerAddress: ManagerStatus?.Addr ?? null,
      isReady: Status?.State === 'ready',
    }));
  } catch (reason) {
    if (!saysNoManager(reason)) throw withoutLeader(reason);
    return managersOf((await swarm.info({ abortSignal })).Swarm ?? {});
  }
}

function managersOf({ LocalNodeState: state, RemoteManagers: managers }: SwarmInfo): SwarmNode[] {
  if (state === 'active' && managers != null && managers.length > 0)
    return managers.map(({ Addr }) => ({ address: '', managerAddress: Addr ?? null, isReady: true }));
  const isIn = state !== undefined && state !== 'inactive';
  const cause = isIn
    ? `this host's engine is ${state} in a Swarm and knows no manager of it`
    : "this host's engine is not part of a Swarm: make it so with docker swarm join";
  throw new AppError('unavailable', cause);
}

/** Said with a status of the engine's own failure, but it passes. */
function withoutLeader(reason: unknown): unknown {
  if (!/does not have a leader/i.test(wordsOf(reason))) return reason;
  const text = 'the Swarm has no leader at the moment: try again, or bring its managers back';
  return new AppError('unavailable', text, { cause: reason });
}
