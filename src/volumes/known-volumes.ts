/** The records of volumes as this host knows them: read from the replica, which answers while etcd is away. */
import { keys } from '../state/keys.js';
import {
  records,
  type AttachmentRecord,
  type Codec,
  type TargetRecord,
  type VolumeRecord,
} from '../state/records.js';
import { settingsOf } from '../state/node-settings.js';
import type { Replica } from '../state/replica.js';
import { decode, decodeAll, unreadableOf, type UnreadableVolume } from './volume-entries.js';

export class KnownVolumes {
  protected readonly replica: Replica;

  constructor(replica: Replica) {
    this.replica = replica;
  }

  /** False while a null from below may mean "not known yet". */
  get complete(): boolean {
    return this.replica.complete;
  }

  volume(name: string): VolumeRecord | null {
    return this.#read(records.volume, keys.volume(name));
  }

  target(volumeId: string): TargetRecord | null {
    return this.#read(records.target, keys.target(volumeId, 0));
  }

  attachment(volumeId: string): AttachmentRecord | null {
    return this.#read(records.attachment, keys.attachment(volumeId));
  }

  /** Whether anything in shared state speaks of this volume, be it damaged. Only by name do volumes have keys. */
  speaksOf(volumeId: string): boolean {
    if (this.replica.get(keys.target(volumeId, 0)) ?? this.replica.get(keys.attachment(volumeId)))
      return true;
    return this.replica.list(keys.volumes).some(({ value }) => value.includes(`"${volumeId}"`));
  }

  volumes(): VolumeRecord[] {
    return decodeAll(records.volume, this.replica.list(keys.volumes));
  }

  /** Names of the volumes whose data is on the node, or that it has attached. */
  volumesOn(node: string): string[] {
    const attachments = decodeAll(records.attachment, this.replica.list(keys.attachments));
    const here = [...this.targetsOn(node), ...attachments.filter((attachment) => attachment.node === node)];
    return [...new Set(here.map(({ volume }) => volume))].sort();
  }

  unreadableVolumes(): UnreadableVolume[] {
    return unreadableOf(this.replica.list(keys.volumes));
  }

  /** @throws `conflict` when a newer version has changed what all hosts share: nothing new is made beside it. */
  checkCluster(): void {
    this.#read(records.cluster, keys.cluster);
  }

  targetsOn(node: string): TargetRecord[] {
    return decodeAll(records.target, this.replica.list(keys.targets)).filter(
      (target) => target.node === node,
    );
  }

  /** Whether other hosts of a cluster of its own know an address of the node. */
  isAdvertised(node: string): boolean {
    return this.replica.get(keys.peer(node)) !== null;
  }

  /** Nobody wants new volumes on it. */
  isDrained(node: string): boolean {
    return settingsOf(this.replica, node).drained;
  }

  /** Whether a volume of this node has its data in the pool. */
  isPoolUsed(node: string, pool: string): boolean {
    const kept = new Set(this.targetsOn(node).map((target) => target.volumeId));
    // The volumes that can be read: a damaged record must not keep others from being made.
    return this.volumes().some(({ id, ...volume }) => {
      return volume.pool === pool && volume.status === 'ready' && kept.has(id);
    });
  }

  /** Called with the names of volumes whose records, target or attachment changed. */
  onChange(listener: (names: readonly string[]) => void): void {
    this.replica.onChange((changed) => {
      const isNamed = (key: string) => key.startsWith(keys.volumes);
      const named = changed.filter(isNamed).map((key) => key.slice(keys.volumes.length));
      const others = new Set(changed.filter((key) => !isNamed(key)));
      const belonging = this.volumes().filter(
        ({ id }) => others.has(keys.target(id, 0)) || others.has(keys.attachment(id)),
      );
      listener([...new Set([...named, ...belonging.map(({ name }) => name)])]);
    });
  }

  /** How a user knows the node: by its host name, if there is one. */
  nodeName(node: string): string {
    const entry = this.replica.get(keys.node(node));
    const [known] = decodeAll(records.node, entry ? [entry] : []);
    return known && known.hostname !== node ? `${known.hostname} (${node})` : node;
  }

  #read<T>(codec: Codec<T>, key: string): T | null {
    return decode(codec, this.replica.get(key));
  }
}
