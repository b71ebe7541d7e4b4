/**
 * Whether what several clients saw of one volume can be explained by its calls taking effect one after another, each
 * at a moment between its begin and its end. The sequential volume is this model.
 */
export type Operation = 'create' | 'mount' | 'unmount' | 'remove' | 'get';

export interface Call {
  readonly operation: Operation;
  /** Of mount and unmount. */
  readonly mountId: string;
  readonly begin: number;
  readonly end: number;
  /** `ok`, an error's code, or of get: `absent`, or the number of mounts. */
  readonly outcome: string;
}

interface Volume {
  readonly exists: boolean;
  /** By mount id, those above zero. */
  readonly mounts: Readonly<Record<string, number>>;
}

const total = ({ mounts }: Volume) => Object.values(mounts).reduce((sum, count) => sum + count, 0);

function counted(volume: Volume, mountId: string, change: number): Volume {
  const count = Math.max(0, (volume.mounts[mountId] ?? 0) + change);
  const others = Object.entries(volume.mounts).filter(([id]) => id !== mountId);
  const mounts = Object.fromEntries([...others, ...(count > 0 ? [[mountId, count] as const] : [])].sort());
  return { exists: true, mounts };
}

/** What the call answers in this state, and the state after it. */
function apply(volume: Volume, { operation, mountId }: Call): [outcome: string, after: Volume] {
  switch (operation) {
    case 'create':
      return ['ok', { ...volume, exists: true }];
    case 'mount':
      return volume.exists ? ['ok', counted(volume, mountId, 1)] : ['not_found', volume];
    case 'unmount':
      return ['ok', volume.exists ? counted(volume, mountId, -1) : volume];
    case 'remove':
      return total(volume) > 0 ? ['in_use', volume] : ['ok', { exists: false, mounts: {} }];
    case 'get':
      return [volume.exists ? String(total(volume)) : 'absent', volume];
  }
}

/** An order that explains the calls, or null. A volume begins absent. */
export function linearize(calls: readonly Call[]): Call[] | null {
  const seen = new Set<string>();
  function search(left: readonly Call[], volume: Volume): Call[] | null {
    if (left.length === 0) return [];
    const key = `${left.map((call) => calls.indexOf(call)).join()} ${JSON.stringify(volume)}`;
    if (seen.has(key)) return null;
    seen.add(key);
    // A call may be the next one only if none that is left ended before it began.
    const firstEnd = Math.min(...left.map(({ end }) => end));
    for (const call of left.filter(({ begin }) => begin <= firstEnd)) {
      const [outcome, after] = apply(volume, call);
      if (outcome !== call.outcome) continue;
      const rest = search(
        left.filter((other) => other !== call),
        after,
      );
      if (rest) return [call, ...rest];
    }
    return null;
  }
  return search(calls, { exists: false, mounts: {} });
}

export interface PlannedCall {
  readonly volume: string;
  readonly operation: Operation;
  readonly mountId: string;
}

/** A mount id that nobody mounts with. */
export const nobody = 'nobody';

/**
 * Runs each client's calls one after another, the clients side by side. Answers what happened, by volume. As an engine
 * does, a client gives back only what it has: its other unmounts are of an id that is not known.
 */
export async function runClients(
  clients: readonly (readonly PlannedCall[])[],
  ask: (call: PlannedCall) => Promise<string>,
): Promise<Map<string, Call[]>> {
  const history = new Map<string, Call[]>();
  let clock = 0;
  await Promise.all(
    clients.map(async (plan) => {
      const has = new Set<PlannedCall>();
      for (const call of plan) {
        const planned = call.operation === 'unmount' ? giveBack(has, call) : call;
        const begin = clock++;
        const outcome = await ask(planned);
        if (planned.operation === 'mount' && outcome === 'ok') has.add(planned);
        const done: Call = { ...planned, begin, end: clock++, outcome };
        history.set(planned.volume, [...(history.get(planned.volume) ?? []), done]);
      }
    }),
  );
  return history;
}

function giveBack(has: Set<PlannedCall>, call: PlannedCall): PlannedCall {
  const held = [...has].find(({ volume, mountId }) => volume === call.volume && mountId === call.mountId);
  if (held) has.delete(held);
  return held ? call : { ...call, mountId: nobody };
}

export function describeCalls(calls: readonly Call[]): string {
  return [...calls]
    .sort((one, other) => one.begin - other.begin)
    .map(
      ({ operation, mountId, begin, end, outcome }) =>
        `${String(begin)}-${String(end)} ${operation} ${mountId} -> ${outcome}`,
    )
    .join('\n');
}
