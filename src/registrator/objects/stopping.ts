/**
 * Which containers are being stopped. The engine's inspection does not tell: a container that was sent its stop signal
 * runs until it ends. Whoever sends it work wants to know before, so the event of the signal is remembered, and the
 * container's state says `Stopping`, until it has ended, was started again, or has gone on for so long that the signal
 * was none to stop it.
 */
import { constants } from 'node:os';
import { actionName, type DockerEvent } from '../../docker/docker-event.js';
import type { Inspected } from '../../docker/objects.js';

/** Beyond the stop timeout that the container has of itself; `docker stop` may have been given another. */
const GRACE_MS = 60_000;
const DEFAULT_STOP_SECONDS = 10;
const KILL = 9;
/** The first of the signals for programs' own use, as Linux numbers them for the C library. */
const SIGRTMIN = 34;

/** All that it was sent: which one stops it tells its inspection only. */
interface Signals {
  readonly numbers: ReadonlySet<number>;
  /** When the last came. */
  readonly since: number;
  /** The same by the engine's clock, in nanoseconds. */
  readonly timeNano: bigint;
}

export class StoppingContainers {
  readonly #signals = new Map<string, Signals>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #graceMs: number;
  readonly #onOver: (id: string) => void;

  /** @param onOver it is time to look at the container again. */
  constructor(onOver: (id: string) => void, graceMs = GRACE_MS) {
    this.#onOver = onOver;
    this.#graceMs = graceMs;
  }

  hear(event: DockerEvent): void {
    if (event.type !== 'container') return;
    const action = actionName(event);
    if (action === 'kill') {
      const number = signalNumber(event.attributes['signal'] ?? '');
      const numbers = this.#signals.get(event.actorId)?.numbers ?? [];
      if (number !== null)
        this.#signals.set(event.actorId, {
          numbers: new Set([...numbers, number]),
          since: performance.now(),
          timeNano: BigInt(event.timeNano),
        });
    } else if (['die', 'start', 'destroy'].includes(action)) this.#forget(event.actorId);
  }

  /** The same, or with `State.Stopping`. */
  mark(id: string, inspected: Inspected): Inspected {
    const signals = this.#signals.get(id);
    if (!signals) return inspected;
    const { State: state, Config: config } = inspected as {
      State?: ContainerState;
      Config?: ContainerConfig;
    };
    if (!isBeingStopped(signals, state, config)) {
      this.#forget(id);
      return inspected;
    }
    const stopMs = (config?.StopTimeout ?? DEFAULT_STOP_SECONDS) * 1000;
    const leftMs = signals.since + stopMs + this.#graceMs - performance.now();
    if (leftMs <= 0) {
      this.#forget(id);
      return inspected;
    }
    this.#lookAgain(id, leftMs);
    return { ...inspected, State: { ...state, Stopping: true } };
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  #lookAgain(id: string, afterMs: number): void {
    clearTimeout(this.#timers.get(id));
    const timer = setTimeout(() => {
      this.#timers.delete(id);
      this.#onOver(id);
    }, afterMs + 1).unref();
    this.#timers.set(id, timer);
  }

  #forget(id: string): void {
    this.#signals.delete(id);
    clearTimeout(this.#timers.get(id));
    this.#timers.delete(id);
  }
}

interface ContainerState {
  readonly Running?: boolean;
  readonly StartedAt?: string;
}

interface ContainerConfig {
  readonly StopSignal?: string;
  readonly StopTimeout?: number;
}

/** Unless it has ended since, or even has another run, its end and its start having been missed. */
function isBeingStopped(signals: Signals, state?: ContainerState, config?: ContainerConfig): boolean {
  if (state?.Running !== true || nanosOf(state.StartedAt ?? '') > signals.timeNano) return false;
  return [KILL, stopSignalOf(config)].some((number) => signals.numbers.has(number));
}

function stopSignalOf(config: ContainerConfig | undefined): number {
  return signalNumber(config?.StopSignal ?? '') ?? constants.signals.SIGTERM;
}

/** Of `2026-11-28T13:27:39.123456789Z`; 0 for what is no time. */
function nanosOf(time: string): bigint {
  const [, fraction = ''] = /\.(\d{1,9})/.exec(time) ?? [];
  const seconds = Math.floor(Date.parse(time) / 1000);
  return Number.isNaN(seconds) ? 0n : BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
}

/** `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`; null for none. */
function signalNumber(text: string): number | null {
  if (/^\d{1,2}$/.test(text)) return Number(text);
  const [, name = '', plus = ''] =
    /^(?:SIG)?([A-Z][A-Z0-9]*)(?:\+(\d{1,2}))?$/.exec(text.toUpperCase()) ?? [];
  if (name === 'RTMIN') return SIGRTMIN + Number(plus);
  const known: Readonly<Record<string, number>> = constants.signals;
  return known[`SIG${name}`] ?? null;
}
