/**
 * What the engine cannot tell of a target's container: where it serves, and how it is. The role says so itself, over its
 * control socket; no event tells when that changes, so it is asked again and again.
 */
import type { Ctx } from './context.js';
import { withDeadline } from './context.js';
import type { RoleContainers, RoleObservation } from './dataplane/role-container.js';
import type { EngineObjects, Inspected } from './docker/objects.js';
import { sleep } from './lib/sleep.js';
import { VSM, type VsmFacts } from './registrator/policies/built-in/vsm.js';

export interface Vsms {
  /** Inspections of targets have what is known of them. */
  readonly objects: EngineObjects;
  /** Tells of targets that have changed, by container, until ctx.signal aborts. */
  follow(ctx: Ctx, changed: (containerId: string) => void): void;
}

interface Target {
  readonly name: string;
  readonly facts: string;
}

const EVERY_MS = 5_000;
const ASK_MS = 2_000;
/** One that is slow once has not changed; one that never answers serves nobody. */
const SILENCES = 3;

export function withVsms(objects: EngineObjects, roles: Pick<RoleContainers, 'observe'>): Vsms {
  /** By container: what was last told of it. */
  const targets = new Map<string, Target>();
  /** By name: what it last said, and how often in a row it said nothing since. */
  const said = new Map<string, { readonly facts: VsmFacts; readonly silences: number }>();

  async function look(ctx: Ctx, name: string): Promise<VsmFacts | null> {
    const observed = await roles.observe(withDeadline(ctx, ASK_MS), name).catch(() => null);
    const before = said.get(name);
    if (observed) said.set(name, { facts: factsOf(observed, name), silences: 0 });
    else if (before) {
      const silences = before.silences + 1;
      const isSilent = silences >= SILENCES && before.facts.state !== 'down';
      const facts = isSilent ? { ...before.facts, state: 'down', error: 'it does not answer' } : before.facts;
      said.set(name, { facts, silences });
    }
    return said.get(name)?.facts ?? null;
  }

  async function follow(ctx: Ctx, changed: (containerId: string) => void): Promise<void> {
    while (!ctx.signal.aborted) {
      for (const [id, { name, facts }] of targets) {
        if (JSON.stringify(await look(ctx, name)) !== facts) changed(id);
      }
      await sleep(EVERY_MS, ctx.signal);
    }
  }

  return {
    objects: {
      list: (ctx, kind) => objects.list(ctx, kind),
      async inspect(ctx, kind, id) {
        const inspected = await objects.inspect(ctx, kind, id);
        const name = kind === 'container' && inspected ? targetNameOf(inspected) : null;
        if (!inspected || name === null) {
          if (kind === 'container') {
            said.delete(targets.get(id)?.name ?? '');
            targets.delete(id);
          }
          return inspected;
        }
        const facts = await look(ctx, name);
        targets.set(id, { name, facts: JSON.stringify(facts) });
        return facts ? { ...inspected, [VSM]: facts } : inspected;
      },
    },
    follow(ctx, changed) {
      void follow(ctx, changed).catch((err: unknown) => {
        if (!ctx.signal.aborted) ctx.log.error({ err }, 'targets are not looked at any more');
      });
    },
  };
}

function targetNameOf(inspected: Inspected): string | null {
  const { Name: name, Config: config } = inspected as {
    Name?: string;
    Config?: { Labels?: Record<string, string> | null };
  };
  return config?.Labels?.['openebs.role'] === 'target' && name ? name.replace(/^\//, '') : null;
}

function factsOf({ settings, status }: RoleObservation, name: string): VsmFacts {
  const said = (key: string) => settings.get(key) ?? '';
  const address = said('address').includes(':') ? `[${said('address')}]` : said('address');
  return {
    volumeId: said('volume') || name,
    iqn: said('iqn'),
    portal: `${address}:${said('port')}`,
    sizeBytes: Number(said('size')),
    state: status?.state ?? 'down',
    error: status?.error ?? '',
    initiators: (status?.initiators ?? []).toSorted(),
  };
}
