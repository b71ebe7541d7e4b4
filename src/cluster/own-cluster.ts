/**
 * The plugin's own etcd as one thing: the connection to it, the member on this host, and, once others can join, its
 * spreading over the hosts.
 */
import type { Ctx } from '../context.js';
import type { RoleContainers } from '../dataplane/role-container.js';
import { failPoint } from '../lib/fail-points.js';
import { KeyedMutex } from '../lib/keyed-mutex.js';
import type { Log } from '../log.js';
import { createEtcdState, type EtcdState } from '../state/etcd-state.js';
import type { State } from '../state/state.js';
import { type LoneCare, startLoneCare } from './care/lone-care.js';
import { type Certificates, ensureCertificates } from './certificates.js';
import { type Backups, type BackupsDeps, createBackups } from './backup/backups.js';
import { recover } from './backup/recover.js';
import { type Company, keepCompany, type Running } from './among-peers.js';
import { refuseCopy, refuseStranger } from './formation/copies.js';
import { hasLog, putAside, readIncarnation } from './formation/incarnation.js';
import { alone, type Membership, readMembership, urlOf, writeMembership } from './formation/membership.js';
import type { Recovery } from './formation/transition.js';
import { namingFullDisk } from './full-disk.js';
import { createTokens, type Tokens } from './join/tokens.js';
import {
  ensureOwnEtcd,
  ETCD_CONTAINER,
  type OwnEtcdOptions,
  QUOTA_BYTES,
  runMember,
  type Turn,
} from './own-etcd.js';

export interface OwnClusterParts extends Omit<OwnEtcdOptions, 'advertise'> {
  readonly roles: RoleContainers;
  readonly log: Log;
  /** How long a member must be unreachable before another host takes its place. */
  readonly graceMs: number;
  readonly backup: Pick<BackupsDeps, 'everyMs' | 'keep'>;
}

export interface OwnCluster {
  /** Client port of etcd here. */
  readonly port: number;
  /** Tells why it does not answer when the disk of this host is full. */
  readonly state: State;
  readonly members: EtcdState['members'];
  readonly membership: () => Membership;
  readonly certificates: () => Certificates;
  readonly tokens: Tokens;
  readonly backups: Backups;
  /** Makes the member on this host run, where there is one. */
  ensure(ctx: Ctx): Promise<void>;
  /** As decided before this process began: before anything else looks at etcd. Idempotent. */
  recover(ctx: Ctx, recovery: Recovery): Promise<void>;
  /** Nothing to do for a host that is alone. Goes on until the signal aborts. */
  keepCompany(ctx: Ctx, company: Company): Running | null;
  /** What a host that is alone needs instead; null for one that is not. Goes on until the signal aborts. */
  careAlone(ctx: Ctx): LoneCare | null;
}

export async function openOwnCluster(parts: OwnClusterParts): Promise<OwnCluster> {
  const membership = (await readMembership(parts.paths)) ?? alone(parts.port);
  return new OpenedCluster(parts, membership, await certificatesOf(parts, membership));
}

function certificatesOf({ paths }: OwnClusterParts, { advertise }: Membership): Promise<Certificates> {
  const addresses = advertise === null ? [] : [advertise];
  return ensureCertificates(paths.view(paths.certificates), { addresses });
}

class OpenedCluster implements OwnCluster {
  readonly port: number;
  readonly state: State;
  readonly tokens: Tokens;
  readonly backups: Backups;
  readonly #parts: OwnClusterParts;
  readonly #etcd: EtcdState;
  readonly #turns = new KeyedMutex();
  #isDue = false;
  #membership: Membership;
  #certificates: Certificates;

  constructor(parts: OwnClusterParts, membership: Membership, certificates: Certificates) {
    const { paths, port, log } = parts;
    this.#parts = parts;
    this.#membership = membership;
    this.#certificates = certificates;
    this.#etcd = createEtcdState({ endpoints: membership.endpoints, tls: tlsOf(certificates), log });
    this.port = port;
    this.state = namingFullDisk(this.#etcd, paths);
    this.tokens = createTokens(this.state);
    const isKeeper = () => hasLog(paths);
    this.backups = createBackups({ ...parts.backup, paths, state: this.state, isKeeper });
  }

  get members(): EtcdState['members'] {
    return this.#etcd.members;
  }

  membership(): Membership {
    return this.#membership;
  }

  certificates(): Certificates {
    return this.#certificates;
  }

  async ensure(ctx: Ctx): Promise<void> {
    this.#certificates = await certificatesOf(this.#parts, this.#membership);
    if (this.#certificates.renewed.length > 0) this.#etcd.renew(tlsOf(this.#certificates));
    await this.#keepRunning(ctx, 'not its turn');
  }

  async #keepRunning(ctx: Ctx, turn: Turn): Promise<void> {
    const parts = { certificates: this.#certificates, turn };
    this.#isDue = !(await this.#exclusive(ctx, async () => {
      await this.#refuseCopy(ctx);
      return ensureMember(ctx, this.#options, parts);
    }));
  }

  async recover(ctx: Ctx, recovery: Recovery): Promise<void> {
    const { advertise } = this.#membership;
    const incarnation = await recover(ctx, recovery, {
      ...this.#options,
      certificates: this.#certificates,
      log: this.#parts.log,
      incarnation: this.#membership.incarnation,
    });
    const endpoints = [urlOf(advertise ?? '127.0.0.1', this.port)];
    await this.#change({ ...this.#membership, endpoints, incarnation, change: recovery.rescue });
    this.#etcd.moveTo(endpoints);
  }

  keepCompany(ctx: Ctx, company: Company): Running | null {
    const { advertise } = this.#membership;
    if (advertise === null) return null;
    const { log, paths, roles } = this.#parts;
    return keepCompany(ctx, {
      ...this.#parts,
      ...company,
      advertise,
      state: this.state,
      etcd: this.#etcd,
      tokens: this.tokens,
      certificates: () => this.#certificates,
      membership: () => this.#membership,
      follow: (endpoints, incarnation) => this.#follow(endpoints, incarnation),
      at: (url) => createEtcdState({ endpoints: [url], tls: tlsOf(this.#certificates), log }),
      run: (caller, incarnation) =>
        this.#exclusive(caller, async () => {
          const parts = { certificates: this.#certificates, incarnation, turn: 'its turn' } as const;
          await runMember(caller, this.#options, parts);
        }),
      retire: (caller) => this.#exclusive(caller, () => retireMember(caller, { paths, roles })),
      isDue: () => this.#isDue,
      renew: (caller) => {
        // Should it fail, the next look at the container tells what is there.
        this.#isDue = false;
        return this.#keepRunning(caller, 'its turn');
      },
    });
  }

  careAlone(ctx: Ctx): LoneCare | null {
    if (this.#membership.advertise !== null) return null;
    const { graceMs } = this.#parts;
    return startLoneCare(ctx, {
      graceMs,
      state: this.#etcd,
      members: this.members,
      quotaBytes: QUOTA_BYTES,
    });
  }

  /** Whoever makes the member run, and whoever takes it away, does not meet the other in the middle. */
  #exclusive<T>({ signal }: Ctx, operation: () => Promise<T>): Promise<T> {
    return this.#turns.run(ETCD_CONTAINER, signal, operation);
  }

  get #options(): OwnEtcdOptions {
    return { ...this.#parts, advertise: this.#membership.advertise };
  }

  /** Whose data it is matters before it is started. */
  async #refuseCopy(ctx: Ctx): Promise<void> {
    const { advertise, endpoints } = this.#membership;
    const { paths, port, roles } = this.#parts;
    if ((await roles.observe(ctx, ETCD_CONTAINER)).status !== null) return;
    const { member, clusterId, formed } = (await readIncarnation(paths)) ?? {};
    if (member === undefined || formed !== true) return;
    await refuseStranger(paths, { member, clusterId });
    if (advertise === null) return;
    const own = urlOf(advertise, port);
    await refuseCopy(ctx, { members: this.members, paths }, { member, own, known: endpoints });
  }

  async #follow(endpoints: readonly string[], incarnation: number): Promise<void> {
    const now = this.#membership;
    if (endpoints.join() === now.endpoints.join() && incarnation === now.incarnation) return;
    this.#etcd.moveTo(endpoints);
    await this.#change({ ...now, endpoints, incarnation });
  }

  async #change(to: Membership): Promise<void> {
    this.#membership = to;
    await writeMembership(this.#parts.paths, to);
  }
}

async function retireMember(
  ctx: Ctx,
  { paths, roles }: Pick<OwnEtcdOptions, 'paths' | 'roles'>,
): Promise<void> {
  await roles.remove(ctx, ETCD_CONTAINER, 0);
  await failPoint('before member aside');
  await putAside(paths);
  await failPoint('after member aside');
}

/** A host that is alone begins one; among others it becomes a member when it is told to, and never by itself. */
async function ensureMember(
  ctx: Ctx,
  options: OwnEtcdOptions,
  { certificates, turn }: { certificates: Certificates; turn: Turn },
): Promise<boolean> {
  if (options.advertise === null) {
    await ensureOwnEtcd(ctx, options, certificates);
    return true;
  }
  const incarnation = await readIncarnation(options.paths);
  return incarnation === null || runMember(ctx, options, { certificates, incarnation, turn });
}

function tlsOf({ ca, client }: Certificates) {
  return {
    ca,
    certificate: client.certificate,
    key: client.key,
    // Node warns when an IP address is asked for by name in TLS; the certificates are good for both.
    serverName: 'localhost',
  };
}
