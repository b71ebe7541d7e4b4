import path from 'node:path';

/**
 * Where things are on the host, and where the plugin sees them. The engine is told host paths; the plugin opens
 * the same file below hostRoot (`/host` in the managed plugin, where config.json mounts the host's directories).
 */
export interface HostPaths {
  /** The plugin's view of a host path. */
  readonly view: (hostPath: string) => string;
  readonly state: string;
  /** Gone with the boot. */
  readonly run: string;
  readonly pools: string;
  readonly pool: (pool: string) => string;
  readonly backing: (pool: string, volumeId: string) => string;
  readonly backingFile: (pool: string, volumeId: string) => string;
  /** A data-plane container's own directory: its spec, secrets and control socket. */
  readonly container: (name: string) => string;
  readonly containers: string;
  readonly etcdData: string;
  /** Who the member in `etcdData` is: kept outside of it. */
  readonly etcdIncarnation: string;
  /** Which cluster this host belongs to, and where the others are. */
  readonly membership: string;
  /** A change of the cluster that is decided and not carried out yet. */
  readonly transition: string;
  /** Names the ending of the cluster that this host has carried out. */
  readonly ended: string;
  readonly identity: string;
  readonly backups: string;
  /** What this host keeps itself where there is no etcd. */
  readonly localState: string;
  /** Says whether etcd or a file has what is recorded. */
  readonly keptIn: string;
  readonly certificates: string;
  readonly cache: string;
  /** Where the plugin mounts file systems: below propagatedMount, in the plugin's own tree. */
  readonly mountpoint: (volumeId: string) => string;
}

export function createHostPaths(hostRoot: string, mountRoot: string): HostPaths {
  const state = '/var/lib/openebs';
  const pool = (name: string) => path.join(state, 'pools', name);
  return {
    view: (hostPath) => path.join(hostRoot, hostPath),
    state,
    run: '/run/openebs',
    pools: path.join(state, 'pools'),
    pool,
    backing: (name, volumeId) => path.join(pool(name), volumeId),
    backingFile: (name, volumeId) => path.join(pool(name), volumeId, BACKING_FILE),
    container: (name) => path.join(state, 'containers', name),
    containers: path.join(state, 'containers'),
    etcdData: path.join(state, 'etcd'),
    etcdIncarnation: path.join(state, 'etcd-incarnation.json'),
    membership: path.join(state, 'membership.json'),
    transition: path.join(state, 'transition.json'),
    ended: path.join(state, 'ended.json'),
    identity: path.join(state, 'node.json'),
    backups: path.join(state, 'backups'),
    localState: path.join(state, 'local'),
    keptIn: path.join(state, 'kept-in.json'),
    certificates: path.join(state, 'certificates'),
    cache: path.join(state, 'cache'),
    mountpoint: (volumeId) => path.join(mountRoot, volumeId),
  };
}

export const BACKING_FILE = 'disk.img';
