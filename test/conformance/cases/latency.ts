import type { Case, Group } from '../case.js';
import { must, ok, type Method, type Trial } from '../trial.js';

/** Made once, and kept until the end of the run. */
const kept = new WeakMap<Trial, string[]>();

/** Names present, after the missing ones were made. */
export async function fill(trial: Trial): Promise<string[]> {
  const known = kept.get(trial);
  if (known) return known;
  const present = (await trial.list()).map(({ Name }) => String(Name));
  const missing = Math.max(trial.settings.volumes, 1) - present.length;
  const made = Array.from({ length: Math.max(0, missing) }, () => trial.name());
  for (let at = 0; at < made.length; at += 4) {
    const answers = await Promise.all(made.slice(at, at + 4).map((name) => trial.create(name)));
    answers.forEach((answer) => ok(answer));
  }
  const all = [...present, ...made];
  kept.set(trial, all);
  return all;
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.ceil(sorted.length * share) - 1] ?? NaN;
}

async function measure(trial: Trial, method: Method): Promise<string> {
  const names = await fill(trial);
  const { calls, latencyBarMs } = trial.settings;
  const connection = await trial.open();
  const spent: number[] = [];
  for (let round = 0; round < calls; round += 1) {
    const Name = names[(round * 7919) % names.length];
    const answer = await trial.on(connection, method, method === 'Get' ? JSON.stringify({ Name }) : '{}');
    spent.push(ok(answer).ms);
  }
  connection.close();
  spent.sort((one, other) => one - other);
  const [p50, p99] = [percentile(spent, 0.5), percentile(spent, 0.99)];
  const figures =
    `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms ` +
    `(${String(calls)} calls, ${String(names.length)} volumes present, bar ${String(latencyBarMs)} ms)`;
  must(p99 <= latencyBarMs, `p99 is above the bar: ${figures}`);
  return figures;
}

export const measures = (['Get', 'List', 'Capabilities'] as const).map((method): Case => ({
  name: `${method} answers in time`,
  why: 'called for every volume at every start, and before nearly every other call',
  run: (trial) => measure(trial, method),
}));

export const latency: Group = { name: 'latency', keeps: true, cases: measures };
