/**
 * What to do next for one volume on this host: a pure function of what is wanted (the records, and whether
 * anything here mounts it) and what is observed (files, containers, mounts). The driver call, the watch and the
 * timer all go through it, so a step has one place where it is decided and one where it is done (converge.ts).
 *
 * INVARIANTS
 * - Each plan is made from fresh observations and holds only steps that are possible now; converge plans again
 *   after them. Nothing is remembered between two plans, so a plugin killed anywhere goes on from what it finds.
 * - Going up: data file, target, attachment, admission, device, file system, mount. Going down: the reverse.
 *   A host gives its attachment back only when its device is gone and the target admits nobody.
 * - A device of an attachment that is over is taken away at once, whoever has it mounted: another node writes, and
 *   what is mounted here can only be wrong. Its file system goes after it, as it could flush nothing any more.
 * - While the engine stops or starts, going down ends at the file system: the device, its container and the
 *   attachment stay, because after the start the engine mounts again before anybody could make them anew.
 * - After an upgrade of the plugin what is in use stays as it is. A target of another image is made anew when
 *   nobody is logged in, an initiator with the next attach.
 * - Data files are made only for a volume that was never ready: a ready volume whose file is missing has lost
 *   its data, and an empty file in its place would hide that.
 */
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';

export interface Wanted {
  /** This host. */
  readonly node: string;
  readonly volume: VolumeRecord;
  readonly target: TargetRecord | null;
  readonly attachment: AttachmentRecord | null;
  /** Something on this host mounts it. */
  readonly mounted: boolean;
}

export interface Observed {
  readonly backing: boolean;
  /** Serving: ready, and admitting exactly who the records say. */
  /** Renewable: of another image than this plugin's, not in use, and the engine is there to make it anew. */
  readonly target: { readonly present: boolean; readonly serving: boolean; readonly renewable: boolean };
  /** Usable: its device is up, with the account of the current epoch. */
  /** Draining: the engine has asked it to stop, and it waits for the device's last user. */
  /** Lost: of an attachment that another has followed, as this node was away; its target refuses it. */
  readonly initiator: {
    readonly present: boolean;
    readonly usable: boolean;
    readonly draining: boolean;
    readonly lost: boolean;
  };
  /** The device may be taken away: false while the engine starts or stops, as far as anybody can tell. */
  readonly detachable: boolean;
  /** current: on the device the initiator has now, as far as that is known. readOnly: made so there by the kernel. */
  readonly mount: { readonly current: boolean; readonly readOnly: boolean } | null;
}

export const stepKinds = [
  'createBacking',
  'serveTarget',
  'renewTarget',
  'markReady',
  'claimAttachment',
  'attachDevice',
  'forfeitDevice',
  'makeFileSystem',
  'mountFileSystem',
  'unmountFileSystem',
  'detachDevice',
  'closeTarget',
  'releaseAttachment',
  'stopTarget',
  'deleteBacking',
  'deleteRecords',
] as const;
export type Step = (typeof stepKinds)[number];

export function plan(wanted: Wanted, observed: Observed): Step[] {
  if (observed.initiator.lost) return ['forfeitDevice'];
  if (wanted.volume.status === 'removing') return planRemoval(wanted, observed);
  const hosting = wanted.target?.node === wanted.node;
  if (wanted.volume.status === 'creating') {
    if (!hosting) return [];
    return [...(observed.backing ? [] : ['createBacking' as const]), 'serveTarget', 'markReady'];
  }
  return wanted.mounted ? planUp(wanted, observed, hosting) : planDown(wanted, observed, hosting);
}

function planUp({ node, volume, attachment }: Wanted, observed: Observed, hosting: boolean): Step[] {
  const { target, initiator, mount } = observed;
  if (mount && isUseless(mount, initiator)) return ['unmountFileSystem'];
  if (attachment?.node !== node) return ['claimAttachment'];
  const serve = hosting ? planTarget(target, !initiator.present) : [];
  if (serve.length > 0) return serve;
  if (!initiator.usable) return ['attachDevice'];
  if (mount) return [];
  return volume.formatted ? ['mountFileSystem'] : ['makeFileSystem', 'mountFileSystem'];
}

/** A mount on a dead, older or stopping device, or one the kernel made read-only, goes before a new one is made. */
function isUseless(mount: NonNullable<Observed['mount']>, initiator: Observed['initiator']): boolean {
  return !mount.current || mount.readOnly || initiator.draining;
}

function planDown({ node, attachment }: Wanted, observed: Observed, hosting: boolean): Step[] {
  const { target, initiator, mount } = observed;
  if (mount) return ['unmountFileSystem'];
  if (attachment?.node === node || initiator.present) {
    if (!observed.detachable) return [];
    if (initiator.present) return ['detachDevice'];
    return hosting ? ['closeTarget', 'releaseAttachment'] : ['releaseAttachment'];
  }
  return hosting ? planTarget(target, attachment === null) : [];
}

function planTarget({ serving, renewable }: Observed['target'], unused: boolean): Step[] {
  if (renewable && unused) return ['renewTarget'];
  return serving ? [] : ['serveTarget'];
}

function planRemoval({ node, target: record, attachment }: Wanted, observed: Observed): Step[] {
  const { target, initiator, mount } = observed;
  if (mount) return ['unmountFileSystem'];
  if (initiator.present) return ['detachDevice'];
  if (attachment?.node === node) return ['releaseAttachment'];
  if (record !== null && record.node !== node) return [];
  if (target.present) return ['stopTarget'];
  // Also when no file is seen: its directory may be left. The record goes last, so that nothing is forgotten.
  return ['deleteBacking', 'deleteRecords'];
}
