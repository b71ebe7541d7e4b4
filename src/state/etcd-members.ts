import type { Etcd3 } from 'etcd3';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import type { CallOptions, EtcdClient } from './etcd-client.js';
import { endOf } from './etcd-codec.js';
import type { Alarm, Member, MemberCare, Members, MemberStatus } from './members.js';

type RawMember = Awaited<ReturnType<Etcd3['cluster']['memberList']>>['members'][number];
type RawStatus = Awaited<ReturnType<Etcd3['maintenance']['status']>>;

export interface EtcdMembersParts {
  readonly client: EtcdClient;
  /** For one member alone, which also asks one that follows no leader. */
  readonly single: (clientUrl: string) => EtcdClient;
  /** The same, for what may take a minute, like defragmenting 2 GiB on a slow disk. */
  readonly slow: (clientUrl: string) => EtcdClient;
}

/** etcd's words for a change that it does not take now, and may take later. Source: server/etcdserver/errors.go */
const notNow = /unhealthy cluster|not enough started members|too many learner|too many members/i;

export function createEtcdMembers(parts: EtcdMembersParts): Members & MemberCare {
  const { client } = parts;
  return {
    async list(ctx) {
      const answer = await client.repeat(client.budget(ctx), 'listing the members', (etcd, options) =>
        etcd.cluster.memberList({ linearizable: true }, options),
      );
      const members = answer.members.map(toMember);
      return { clusterId: answer.header.cluster_id, members: members.toSorted(byNumber) };
    },
    async addLearner(ctx, peerUrl) {
      const answer = await change(client, ctx, 'adding a member', (etcd, options) =>
        etcd.cluster.memberAdd({ peerURLs: [peerUrl], isLearner: true }, options),
      );
      return toMember(answer.member);
    },
    promote: (ctx, id) =>
      change(client, ctx, 'giving a member its vote', async (etcd, options) => {
        try {
          await etcd.cluster.memberPromote({ ID: id }, options);
          return true;
        } catch (reason) {
          if (String(reason).includes('can only promote a learner member which is in sync')) return false;
          if (String(reason).includes('can only promote a learner')) return true;
          throw reason;
        }
      }),
    remove: (ctx, id) =>
      change(client, ctx, 'removing a member', async (etcd, options) => {
        try {
          await etcd.cluster.memberRemove({ ID: id }, options);
        } catch (reason) {
          if (!/member not found|member is already removed/i.test(String(reason))) throw reason;
        }
      }),
    move: (ctx, id, peerUrl) =>
      change(client, ctx, 'moving a member', async (etcd, options) => {
        await etcd.cluster.memberUpdate({ ID: id, peerURLs: [peerUrl] }, options);
      }),
    status: (ctx, clientUrl) =>
      ask(ctx, parts.single(clientUrl), async (etcd, options) =>
        toStatus(await etcd.maintenance.status(options)),
      ),
    ...createCare(parts),
  };
}

function createCare({ client, single, slow }: EtcdMembersParts): MemberCare {
  const readAlarms = async (ctx: Ctx): Promise<readonly Alarm[]> => {
    const answer = await client.repeat(client.budget(ctx), 'reading the alarms', (etcd, options) =>
      etcd.maintenance.alarm({ action: 'Get' }, options),
    );
    return answer.alarms.flatMap(({ memberID, alarm }) => toAlarm(memberID, alarm));
  };
  return {
    alarms: readAlarms,
    async disarmNoSpace(ctx) {
      for (const { member, kind } of await readAlarms(ctx)) {
        if (kind !== 'NOSPACE') continue;
        // One by one: etcd takes no number for all.
        const request = { action: 'Deactivate', memberID: member, alarm: 'Nospace' } as const;
        await client.repeat(client.budget(ctx), 'disarming NOSPACE', (etcd, options) =>
          etcd.maintenance.alarm(request, options),
        );
      }
    },
    compact: (ctx, clientUrl) =>
      ask(ctx, slow(clientUrl), async (etcd, options) => {
        const { header } = await etcd.kv.range({ key: Buffer.from('/') }, options);
        await etcd.kv
          .compact({ revision: header.revision, physical: true }, options)
          .catch((reason: unknown) => {
            if (!String(reason).includes('has been compacted')) throw reason;
          });
      }),
    count: (ctx, prefix) => count(client, ctx, prefix),
    defragment: (ctx, clientUrl) =>
      ask(ctx, slow(clientUrl), async (etcd, options) => {
        await etcd.maintenance.defragment(options);
      }),
    moveLeader: (ctx, clientUrl, to) =>
      ask(ctx, single(clientUrl), async (etcd, options) => {
        await etcd.maintenance.moveLeader({ targetID: to }, options);
      }),
  };
}

async function count(client: EtcdClient, ctx: Ctx, prefix: string): Promise<number> {
  const every = Buffer.from([0]);
  const request =
    prefix === ''
      ? { key: every, range_end: every, count_only: true }
      : { key: Buffer.from(prefix), range_end: endOf(prefix), count_only: true };
  const answer = await client.repeat(client.budget(ctx), `counting ${prefix}`, (etcd, options) =>
    etcd.kv.range(request, options),
  );
  return Number(answer.count);
}

/** Sent once: whether a change that was not answered was carried out shows in the list. */
async function change<T>(
  client: EtcdClient,
  ctx: Ctx,
  doing: string,
  call: (etcd: Etcd3, options: CallOptions) => Promise<T>,
): Promise<T> {
  const budget = client.budget(ctx);
  try {
    return await client.attempt(budget, call);
  } catch (reason) {
    const text = reason instanceof Error ? reason.message : String(reason);
    if (/Peer URLs? already exists|member ID already exist/i.test(text))
      throw new AppError('conflict', `${doing}: a member has this address already`, { cause: reason });
    if (notNow.test(text))
      throw new AppError(
        'unavailable',
        `${doing}: etcd does not take it now (${text.replace(/^.*etcdserver: /s, '')})`,
        {
          cause: reason,
        },
      );
    throw client.failed(reason).error;
  }
}

async function ask<T>(
  ctx: Ctx,
  client: EtcdClient,
  call: (etcd: Etcd3, options: CallOptions) => Promise<T>,
): Promise<T> {
  try {
    return await client.attempt(client.budget(ctx), call);
  } catch (reason) {
    throw client.failed(reason).error;
  }
}

function toMember({ ID, name, peerURLs, clientURLs, isLearner }: RawMember): Member {
  return { id: ID, name, peerUrls: peerURLs, clientUrls: clientURLs, learner: isLearner };
}

function byNumber({ id: one }: Member, { id: other }: Member): number {
  return Number(BigInt(one) > BigInt(other)) - Number(BigInt(one) < BigInt(other));
}

function toStatus(status: RawStatus): MemberStatus {
  return {
    id: status.header.member_id,
    clusterId: status.header.cluster_id,
    version: status.version,
    leader: status.leader === '0' ? null : status.leader,
    appliedIndex: Number(status.raftAppliedIndex),
    learner: status.isLearner,
    dbBytes: Number(status.dbSize),
    dbBytesInUse: Number(status.dbSizeInUse),
  };
}

function toAlarm(member: string, alarm: string): Alarm[] {
  const kind = alarm.toUpperCase();
  return kind === 'NOSPACE' || kind === 'CORRUPT' ? [{ member, kind }] : [];
}
