import type { Ctx } from '../context.js';

/**
 * What the edges ask of the domain. Errors are AppErrors whose message a Docker user reads as
 * `create db: <message>`. Every call may be repeated: an engine retries what it believes lost.
 */
export interface VolumeService {
  /** Makes the volume ready to mount; the same name with the same options again succeeds and changes nothing. */
  create(ctx: Ctx, name: string, options: Readonly<Record<string, string>>): Promise<void>;
  /** Refused (`in_use`) while attached anywhere. */
  remove(ctx: Ctx, name: string): Promise<void>;
  /** Answers the mountpoint. If ctx.signal aborts before the answer, nothing of this call stays counted. */
  mount(ctx: Ctx, name: string, mountId: string): Promise<string>;
  unmount(ctx: Ctx, name: string, mountId: string): Promise<void>;
  /** From memory; `not_found` when the name is positively absent. */
  get(ctx: Ctx, name: string): Promise<VolumeView>;
  /** From memory. */
  list(): readonly VolumeView[];
}

export interface VolumeView {
  readonly name: string;
  /** Empty when not mounted here. */
  readonly mountpoint: string;
  /** RFC 3339: Docker fails a whole listing on anything else. */
  readonly createdAt: string;
  /** Shown by `docker volume inspect`. */
  readonly status: VolumeStatus;
}

/** Of a volume whose record cannot be read, state and error are all that is there. */
export interface VolumeStatus {
  readonly id?: string;
  readonly state?: 'creating' | 'ready' | 'removing' | 'unreadable';
  /** For readers; `sizeBytes` is for programs. */
  readonly size?: string;
  readonly sizeBytes?: number;
  readonly fs?: string;
  readonly pool?: string;
  /** Where its data is. */
  readonly node?: string;
  /** `address:port` */
  readonly target?: string;
  readonly iqn?: string;
  /** Node that has it attached; empty: none. */
  readonly attachedTo?: string;
  /** Mounts on this host. */
  readonly mountsHere?: number;
  /** What this host last failed at with it; empty: nothing. */
  readonly error?: string;
  /** What was brought back last; empty: nothing. */
  readonly repaired?: string;
}
