/** Takes back what cases made, and tells what does not go. */
import type { Trial } from './trial.js';

const pauseMs = 500;

async function removeOne(trial: Trial, name: string, attempts: number): Promise<string | null> {
  let reason = '';
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    if (attempt > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    for (const id of attempt === 0 ? (trial.mounts.get(name) ?? []) : [])
      await trial.unmount(name, id).catch(() => undefined);
    const answer = await trial.remove(name);
    reason = answer.err;
    const gone = (await trial.listed(name)).length === 0;
    if (gone) return null;
  }
  return `${name} (${reason})`;
}

/** At the end of a run, for a driver that gives back in the background. */
export const patient = 20;

/** Removes the volumes that were made since `since`. Answers those that stayed, with the reason. */
export async function takeBack(
  trial: Trial,
  attempts: number,
  since: ReadonlySet<string> = new Set(),
): Promise<string[]> {
  const stayed: string[] = [];
  const listed = new Set((await trial.list()).map(({ Name }) => String(Name)));
  for (const name of [...trial.touched].filter((each) => !since.has(each))) {
    const left = listed.has(name)
      ? await removeOne(trial, name, attempts).catch((why: unknown) => String(why))
      : null;
    if (left === null) {
      trial.touched.delete(name);
      trial.mounts.delete(name);
    } else stayed.push(left);
  }
  return stayed;
}
