/** What this host reaches of the others, and how far their clocks are from its own. Bounded in time, all at once. */
import { request } from 'node:https';
import { connect } from 'node:net';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { type PeerRecord, records } from '../state/records.js';
import type { Replica } from '../state/replica.js';
import { joinPortOf } from './formation/membership.js';

export interface NeighbourReport {
  readonly node: string;
  readonly hostname: string;
  readonly address: string;
  /** Its plugin gives signs of life in shared state. */
  readonly alive: boolean;
  readonly ports: readonly PortReport[];
  /** Of its clock to ours; null: it did not tell. */
  readonly clock: ClockReport | null;
}

export interface PortReport {
  readonly port: number;
  readonly purpose: 'etcd' | 'members of etcd' | 'joining';
  /** Null: it answers. */
  readonly problem: string | null;
}

export interface ClockReport {
  /** How far it is ahead of ours; below 0: behind. */
  readonly aheadMs: number;
  /** The truth is no farther from that: half of the time that the answer took. */
  readonly withinMs: number;
}

export interface NeighboursDeps {
  /** All hosts of the cluster but this one. */
  readonly peers: readonly PeerRecord[];
  readonly isAlive: (node: string) => boolean;
  /** Certificate of the cluster's authority: nobody else's clock is believed. */
  readonly authority: Buffer;
  readonly now?: () => number;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 3000;
const clockAnswer = z.object({ now: z.number() });

export function lookAtNeighbours(deps: NeighboursDeps): Promise<NeighbourReport[]> {
  return Promise.all(deps.peers.map((peer) => look(peer, deps)));
}

async function look(peer: PeerRecord, deps: NeighboursDeps): Promise<NeighbourReport> {
  const { timeoutMs = TIMEOUT_MS } = deps;
  const { hostname: bracketed, port } = new URL(peer.clientUrl);
  const address = bracketed.replace(/^\[|\]$/g, '');
  const first = Number(port);
  const wanted = [
    { number: first, purpose: 'etcd' },
    { number: first + 1, purpose: 'members of etcd' },
    { number: joinPortOf(first), purpose: 'joining' },
  ] as const;
  const [ports, clock] = await Promise.all([
    Promise.all(
      wanted
        // On a host without a member nobody listens for etcd.
        .filter(({ purpose }) => purpose === 'joining' || peer.member !== null)
        .map(async ({ number, purpose }) => {
          return { port: number, purpose, problem: await knock(address, number, timeoutMs) };
        }),
    ),
    askClock(address, joinPortOf(first), deps).catch(() => null),
  ]);
  const { node, hostname } = peer;
  return { node, hostname, address, alive: deps.isAlive(node), ports, clock };
}

/** Why nobody answers; null: somebody does. */
function knock(host: string, port: number, timeoutMs: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (problem: string | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(problem);
    };
    const timer = setTimeout(() => {
      end(`no answer within ${String(timeoutMs / 1000)} s`);
    }, timeoutMs);
    socket.once('connect', () => {
      end(null);
    });
    socket.on('error', ({ code, message }: NodeJS.ErrnoException) => {
      end(code === 'ECONNREFUSED' ? 'refused' : message);
    });
  });
}

function askClock(host: string, port: number, deps: NeighboursDeps): Promise<ClockReport> {
  const { authority, now = Date.now, timeoutMs = TIMEOUT_MS } = deps;
  const tls = { ca: authority, servername: 'localhost', minVersion: 'TLSv1.3' } as const;
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    let askedAt = now();
    const call = request({ host, port, path: '/v1/clock', signal, agent: false, ...tls }, (answer) => {
      const answeredAt = now();
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part));
      answer.on('error', reject);
      answer.on('end', () => {
        try {
          const theirs = clockAnswer.parse(JSON.parse(text)).now;
          resolve({ aheadMs: theirs - (askedAt + answeredAt) / 2, withinMs: (answeredAt - askedAt) / 2 });
        } catch (reason) {
          reject(AppError.from(reason, 'unavailable'));
        }
      });
    });
    // What the connection takes says nothing of the clock.
    call.on('socket', (socket) => socket.once('secureConnect', () => (askedAt = now())));
    call.on('error', reject);
    call.end();
  });
}

/** Also while etcd is away; what cannot be read is as if it were not there. */
export function knownPeers(replica: Pick<Replica, 'list'>): PeerRecord[] {
  return replica.list(keys.peers).flatMap(({ key, value }) => {
    try {
      return [records.peer.decode(key, value)];
    } catch {
      return [];
    }
  });
}
