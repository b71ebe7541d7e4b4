/** Discovery by SRV records of DNS (RFC 2782). */
import { Resolver } from 'node:dns/promises';
import type { SrvRecord } from 'node:dns';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { isPort, readHost } from './address.js';
import { bounded } from './bounded.js';
import type { Address, Discovery } from './discovery.js';

export interface DnsOptions {
  /** Of the records. */
  readonly name: string;
  /** One per search, as it is canceled with it; default: one that asks the name servers of the system. */
  readonly resolver?: () => Pick<Resolver, 'resolveSrv' | 'cancel'>;
  /** From 0 up to 1, for the choice by weight. */
  readonly random?: () => number;
  readonly limitMs?: number | undefined;
}

/** Two tries of a name server, and time for another one. */
const TRY_MS = 1_000;
/** The name, or records of that type, do not exist: nobody has said that there are hosts. */
const ABSENT = ['ENOTFOUND', 'ENODATA'];

export function createDnsDiscovery(options: DnsOptions): Discovery {
  const { name, random = Math.random, limitMs } = options;
  const resolver = options.resolver ?? (() => new Resolver({ timeout: TRY_MS, tries: 2 }));
  return bounded({
    name: `dns:${name}`,
    wayOut: 'check the name servers of this host (/etc/resolv.conf), or name the hosts with static:HOST,...',
    find: async (ctx) => inOrder(await lookUp(ctx, name, resolver()), random).flatMap(addressOf),
    limitMs,
  });
}

async function lookUp(
  ctx: Ctx,
  name: string,
  resolver: Pick<Resolver, 'resolveSrv' | 'cancel'>,
): Promise<SrvRecord[]> {
  const cancel = () => {
    resolver.cancel();
  };
  ctx.signal.addEventListener('abort', cancel, { once: true });
  try {
    return await resolver.resolveSrv(name);
  } catch (cause) {
    const { code = 'no code' } = cause as NodeJS.ErrnoException;
    if (ABSENT.includes(code)) return [];
    const wayOut =
      'check that the name servers of this host answer for it, or name the hosts with static:HOST,...';
    throw new AppError('unavailable', `its SRV records cannot be looked up (${code}): ${wayOut}`, { cause });
  } finally {
    ctx.signal.removeEventListener('abort', cancel);
  }
}

/** Lowest priority first; among equals at random, so that each is first as often as its weight says. */
function inOrder(records: readonly SrvRecord[], random: () => number): SrvRecord[] {
  const byPriority = Map.groupBy(records, ({ priority }) => priority);
  return [...byPriority].toSorted(([a], [b]) => a - b).flatMap(([, equals]) => shuffle(equals, random));
}

function shuffle(records: readonly SrvRecord[], random: () => number): SrvRecord[] {
  // Those of weight 0 stand first, which gives them a small chance beside others.
  const left = records.toSorted((a, b) => Math.sign(a.weight) - Math.sign(b.weight));
  const order: SrvRecord[] = [];
  while (left.length > 0) {
    const sum = left.reduce((total, { weight }) => total + weight, 0);
    // Of 0 to the sum, both inclusive, as the RFC says.
    let running = Math.floor(random() * (sum + 1));
    const index = left.findIndex(({ weight }) => (running -= weight) <= 0);
    order.push(...left.splice(Math.max(index, 0), 1));
  }
  return order;
}

/** None for the root, with which a domain says that it has no such service, and for what can be no host. */
function addressOf({ name, port }: SrvRecord): Address[] {
  const host = readHost(name);
  return host !== null && isPort(port) ? [{ host, port }] : [];
}
