import { readFile } from 'node:fs/promises';
import type { Ctx } from '../context.js';
import { runCommand } from './command.js';
import { parseMountInfo, type MountEntry } from './mount-info.js';

/**
 * The plugin is given /var/lib with all that was mounted below it at its start: the layers of every running
 * container too. Held here they would stay mounted after their containers are gone, so all but ours are dropped.
 * Never where an unmount would travel back to the host: that is where the parent mount is shared, its own or that of
 * one below it, as a lazy unmount takes all that is below along.
 *
 * Engines from 28 make the plugin's whole tree shared, whatever config.json asks for: nothing could be dropped then, and
 * a copy of a volume's mount would hold its device for ever. So the tree is made what was asked for first: it follows
 * the host, and the host does not follow it.
 */
export async function pruneMounts(ctx: Ctx, below: string, keep: string): Promise<void> {
  const slave = await runCommand(ctx, 'mount', ['--make-rslave', below]);
  if (slave.code !== 0) ctx.log.warn({ below, stderr: slave.stderr }, 'mounts below it stay shared');
  const entries = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
  for (const { mountpoint } of prunable(entries, below, keep)) {
    const result = await runCommand(ctx, 'umount', ['--lazy', '--no-canonicalize', mountpoint]);
    if (result.code !== 0)
      ctx.log.debug({ mountpoint, stderr: result.stderr }, 'a mount of another was not dropped');
  }
}

/** Deepest first. */
export function prunable(entries: readonly MountEntry[], below: string, keep: string): MountEntry[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]));
  const isShared = (entry: MountEntry | undefined) =>
    entry?.propagation.some((field) => field.startsWith('shared:')) ?? true;
  const children = Map.groupBy(entries, (entry) => entry.parent);
  const carriesShared = (entry: MountEntry): boolean =>
    (children.get(entry.id) ?? []).some((child) => isShared(entry) || carriesShared(child));
  return entries
    .filter(({ mountpoint }) => mountpoint.startsWith(`${below}/`))
    .filter(({ mountpoint }) => mountpoint !== keep && !mountpoint.startsWith(`${keep}/`))
    .filter((entry) => !isShared(byId.get(entry.parent)) && !carriesShared(entry))
    .toSorted((one, other) => other.mountpoint.length - one.mountpoint.length);
}
