/**
 * The plugin's own etcd as one thing: the connection to it, the member on this host, and, once others can join, its
 * spreading over the hosts.
 */
import type { Ctx } from '../context.js';
import type { RoleContainers } from '../dataplane/role-container.js';
import type { Log } from '../log.js';
import { createEtcdState, type EtcdState } from '../state/etcd-state.js';
import type { State } from '../state/state.js';
import { type LoneCare, startLoneCare } from './care/lone-care.js';
import { type Certificates, ensureCertificates } from './certificates.js';
import { type Company, keepCompany, type Running } from './among-peers.js';
import { readIncarnation } from './formation/incarnation.js';
import { alone, type Membership, readMembership, writeMembership } from './formation/membership.js';
import { namingFullDisk } from './full-disk.js';
import { createTokens, type Tokens } from './join/tokens.js';
import { ensureOwnEtcd, ETCD_CONTAINER, type OwnEtcdOptions, QUOTA_BYTES, runMember } from './own-etcd.js';

export interface OwnClusterParts extends Omit<OwnEtcdOptions, 'advertise'> {
  readonly roles: RoleContainers;
  readonly log: Log;
  /** How long a member must be unreachable before another host takes its place. */
  readonly graceMs: number;
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
  /** Makes the member on this host run, where there is one. */
  ensure(ctx: Ctx): Promise<void>;
  /** Nothing to do for a host that is alone. Goes on until the signal aborts. */
  keepCompany(ctx: Ctx, company: Company): Running | null;
  /** What a host that is alone needs instead; null for one that is not. Goes on until the signal aborts. */
  careAlone(ctx: Ctx): LoneCare | null;
}

export async function openOwnCluster(parts: OwnClusterParts): Promise<OwnCluster> {
  const { paths, port, log } = parts;
  let membership = (await readMembership(paths)) ?? alone(port);
  const { advertise } = membership;
  const makeCertificates = () =>
    ensureCertificates(paths.view(paths.certificates), { addresses: advertise === null ? [] : [advertise] });
  let certificates = await makeCertificates();
  const state = createEtcdState({ endpoints: membership.endpoints, tls: tlsOf(certificates), log });
  const named = namingFullDisk(state, paths);
  const tokens = createTokens(named);
  const options = { ...parts, advertise };

  async function follow(endpoints: readonly string[]): Promise<void> {
    state.moveTo(endpoints);
    if (endpoints.join() === membership.endpoints.join()) return;
    membership = { ...membership, endpoints };
    await writeMembership(paths, membership);
  }

  return {
    port,
    state: named,
    members: state.members,
    membership: () => membership,
    certificates: () => certificates,
    tokens,
    async ensure(ctx) {
      certificates = await makeCertificates();
      if (certificates.renewed.length > 0) state.renew(tlsOf(certificates));
      await ensureMember(ctx, options, certificates);
    },
    keepCompany(ctx, company) {
      if (advertise === null) return null;
      return keepCompany(ctx, {
        ...company,
        paths,
        advertise,
        port,
        state: named,
        etcd: state,
        tokens,
        graceMs: parts.graceMs,
        certificates: () => certificates,
        membership: () => membership,
        follow,
        run: (limited, incarnation) => runMember(limited, options, certificates, incarnation),
        stop: (limited) => parts.roles.remove(limited, ETCD_CONTAINER, 0),
      });
    },
    careAlone: (ctx) => (advertise === null ? careAlone(ctx, state, parts) : null),
  };
}

function careAlone(ctx: Ctx, state: EtcdState, { graceMs }: OwnClusterParts): LoneCare {
  return startLoneCare(ctx, { graceMs, state, members: state.members, quotaBytes: QUOTA_BYTES });
}

/** A host that is alone begins one; among others it becomes a member when it is told to, and never by itself. */
async function ensureMember(ctx: Ctx, options: OwnEtcdOptions, certificates: Certificates): Promise<void> {
  if (options.advertise === null) return ensureOwnEtcd(ctx, options, certificates);
  const incarnation = await readIncarnation(options.paths);
  if (incarnation) await runMember(ctx, options, certificates, incarnation);
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
