/**
 * The records of volumes, changed by compare-and-swap only. Each write is one transaction over all records it touches,
 * and is in the replica and on disk when it returns.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import { keys } from '../state/keys.js';
import {
  records,
  type AttachmentRecord,
  type EvictionRecord,
  type TargetRecord,
  type VolumeRecord,
} from '../state/records.js';
import type { RecordedChange, Replica } from '../state/replica.js';
import type { Comparison, State } from '../state/state.js';
import { KnownVolumes } from './known-volumes.js';
import { newAttachmentRecord } from './volume.js';
import { decode, decodeAll } from './volume-entries.js';

const ATTEMPTS = 8;
/** The cluster is not being taken down. */
const stands: Comparison = { key: keys.ending, absent: true };

export class VolumeRecords extends KnownVolumes {
  readonly #state: State;

  constructor(state: State, replica: Replica) {
    super(replica);
    this.#state = state;
  }

  /** Reads the volume and what belongs to it from shared state itself. */
  async fetch(ctx: Ctx, name: string): Promise<VolumeRecord | null> {
    const volume = decode(records.volume, await this.replica.refresh(ctx, keys.volume(name)));
    if (volume) {
      await this.replica.refresh(ctx, keys.target(volume.id, 0));
      await this.replica.refresh(ctx, keys.attachment(volume.id));
    }
    return volume;
  }

  /** Whether shared state itself, asked now, has neither target nor attachment of the volume. */
  async isGone(ctx: Ctx, volumeId: string): Promise<boolean> {
    if ((await this.#state.get(ctx, keys.target(volumeId, 0))) !== null) return false;
    return (await this.#state.get(ctx, keys.attachment(volumeId))) === null;
  }

  /**
   * False when somebody else created the name meanwhile.
   * @throws `unavailable` while the cluster is being taken down
   */
  async insert(ctx: Ctx, volume: VolumeRecord, target: TargetRecord): Promise<boolean> {
    const done = await this.#transact(ctx, {
      if: [{ key: keys.volume(volume.name), absent: true }, stands],
      then: [
        { put: keys.volume(volume.name), value: records.volume.encode(volume) },
        { put: keys.target(volume.id, 0), value: records.target.encode(target) },
      ],
    });
    if (!done) await this.#refuseEnding(ctx, volume.name);
    return done;
  }

  /** @throws `not_found` when the name belongs to another volume by now. */
  async change(
    ctx: Ctx,
    { name, id }: VolumeKey,
    change: (volume: VolumeRecord) => VolumeRecord,
  ): Promise<void> {
    const key = keys.volume(name);
    await this.#retry(ctx, [key], () => {
      const volume = this.#existing(name);
      if (volume.id !== id)
        throw new AppError('not_found', `volume ${name} was removed and made anew meanwhile`);
      return {
        if: [this.#unchanged(key)],
        then: [{ put: key, value: records.volume.encode(change(volume)) }],
      };
    });
  }

  async moveTarget(
    ctx: Ctx,
    volumeId: string,
    to: Partial<Pick<TargetRecord, 'address' | 'port'>>,
  ): Promise<void> {
    const key = keys.target(volumeId, 0);
    await this.#retry(ctx, [key], () => {
      const target = this.target(volumeId);
      return (
        target && {
          if: [this.#unchanged(key)],
          then: [{ put: key, value: records.target.encode({ ...target, ...to }) }],
        }
      );
    });
  }

  /** @throws `in_use` while it is attached anywhere. */
  async markRemoving(ctx: Ctx, name: string): Promise<void> {
    const attachmentKey = keys.attachment(this.#existing(name).id);
    await this.#retry(ctx, [keys.volume(name), attachmentKey], () => {
      const volume = this.#existing(name);
      if (volume.status === 'removing') return null;
      const attachment = this.attachment(volume.id);
      if (attachment) throw inUse(name, this.nodeName(attachment.node));
      const removing: VolumeRecord = {
        ...volume,
        status: 'removing',
        neverReady: volume.status === 'creating',
      };
      return {
        if: [this.#unchanged(keys.volume(name)), { key: attachmentKey, absent: true }],
        then: [{ put: keys.volume(name), value: records.volume.encode(removing) }],
      };
    });
  }

  /**
   * Takes the attachment for this node with a new epoch.
   * @throws `in_use` when another node has it, `unavailable` while the cluster is being taken down
   */
  async attach(ctx: Ctx, name: string, node: string): Promise<void> {
    const attachmentKey = keys.attachment(this.#existing(name).id);
    await this.#retry(ctx, [keys.volume(name), attachmentKey], () => {
      const volume = this.#existing(name);
      const current = this.attachment(volume.id);
      if (current?.node === node) return null;
      if (current) throw inUse(name, this.nodeName(current.node));
      if (volume.status === 'removing') throw beingRemoved(name);
      const attachment = newAttachmentRecord(volume, node);
      return {
        if: [this.#unchanged(keys.volume(name)), { key: attachmentKey, absent: true }, stands],
        then: [
          { put: attachmentKey, value: records.attachment.encode(attachment) },
          { put: keys.volume(name), value: records.volume.encode({ ...volume, epoch: attachment.epoch }) },
        ],
      };
    });
  }

  /**
   * Gives this node what `from` recorded for another one, with a new epoch. False when that one is alive, or when
   * attachment or volume changed meanwhile. That it can be done at all means that etcd has a majority.
   */
  async takeOver(ctx: Ctx, name: string, node: string, from: AttachmentRecord): Promise<boolean> {
    const volume = this.#existing(name);
    const key = keys.attachment(volume.id);
    if (this.attachment(volume.id)?.epoch !== from.epoch || volume.status !== 'ready') return false;
    const attachment = newAttachmentRecord(volume, node);
    return this.#transact(ctx, {
      if: [
        this.#unchanged(keys.volume(name)),
        this.#unchanged(key),
        { key: keys.alive(from.node), absent: true },
        stands,
      ],
      then: [
        { put: key, value: records.attachment.encode(attachment) },
        { put: keys.volume(name), value: records.volume.encode({ ...volume, epoch: attachment.epoch }) },
        { put: keys.eviction(from.node, volume.id), value: records.eviction.encode(evictionOf(from)) },
      ],
    });
  }

  /** What was taken from the node while it was away: volume id -> epoch of the attachment that is void. */
  async evictedFrom(ctx: Ctx, node: string): Promise<Map<string, number>> {
    const { entries } = await this.#state.range(ctx, keys.evictionsOf(node));
    return new Map(decodeAll(records.eviction, entries).map(({ volumeId, epoch }) => [volumeId, epoch]));
  }

  async forgetEviction(ctx: Ctx, node: string, volumeId: string): Promise<void> {
    await this.#state.transact(ctx, { if: [], then: [{ delete: keys.eviction(node, volumeId) }] });
  }

  async release(ctx: Ctx, volumeId: string, node: string): Promise<void> {
    const key = keys.attachment(volumeId);
    await this.#retry(ctx, [key], () =>
      this.attachment(volumeId)?.node === node
        ? { if: [this.#unchanged(key)], then: [{ delete: key }] }
        : null,
    );
  }

  /** Leaves alone a volume of the same name that is another by now. */
  async delete(ctx: Ctx, { name, id }: VolumeKey): Promise<void> {
    const key = keys.volume(name);
    await this.#retry(ctx, [key], () => {
      if (this.volume(name)?.id !== id) return null;
      return {
        if: [this.#unchanged(key)],
        then: [{ delete: key }, { delete: keys.target(id, 0) }, { delete: keys.attachment(id) }],
      };
    });
  }

  /** Decides and writes until nobody else wrote in between; `decide` answers null when there is nothing to do. */
  async #retry(ctx: Ctx, touched: readonly string[], decide: () => Decision | null): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const decision = decide();
      if (!decision || (await this.#transact(ctx, decision))) return;
      if (decision.if.includes(stands))
        await this.#refuseEnding(ctx, (touched[0] ?? '').slice(keys.volumes.length));
      for (const key of touched) await this.replica.refresh(ctx, key);
    }
    throw new AppError('conflict', `${touched[0] ?? ''} keeps changing under this write: try again`);
  }

  async #transact(ctx: Ctx, decision: Decision): Promise<boolean> {
    await failPoint('before record write');
    const result = await this.#state.transact(ctx, decision);
    await failPoint('after record write');
    if (result.ok) await this.replica.record(result.revision, decision.then);
    await failPoint('after record cache');
    return result.ok;
  }

  async #refuseEnding(ctx: Ctx, name: string): Promise<void> {
    if ((await this.#state.get(ctx, keys.ending)) === null) return;
    const text = `volume ${name} cannot be had: the cluster is being taken down ("docker openebs cluster down")`;
    throw new AppError('unavailable', text);
  }

  #unchanged(key: string): Comparison {
    const entry = this.replica.get(key);
    return entry ? { key, modRevision: entry.modRevision } : { key, absent: true };
  }

  #existing(name: string): VolumeRecord {
    const volume = this.volume(name);
    if (volume) return volume;
    throw new AppError('not_found', `volume ${name} does not exist`);
  }
}

function evictionOf({ volume, volumeId, epoch }: AttachmentRecord): EvictionRecord {
  return { schema: 1, volume, volumeId, epoch };
}

/** A name can be made anew; only name and id together say which volume is meant. */
type VolumeKey = Pick<VolumeRecord, 'name' | 'id'>;

interface Decision {
  readonly if: readonly Comparison[];
  readonly then: readonly RecordedChange[];
}

export function inUse(name: string, node: string): AppError {
  return new AppError(
    'in_use',
    `volume ${name} is in use on node ${node}: stop the containers that use it there first`,
  );
}

/** `awaited`: the node that has to finish it, and is away. */
export function beingRemoved(name: string, awaited?: string): AppError {
  const text =
    awaited === undefined
      ? 'try again in a moment'
      : `node ${awaited}, which has its data, is away and finishes that when it is back`;
  return new AppError('conflict', `volume ${name} is being removed: ${text}`);
}
