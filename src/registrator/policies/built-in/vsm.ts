/** The VSMs of this cluster: where each volume is served, and how its target is. */
import { z } from 'zod';
import { keys } from '../../../state/keys.js';
import type { Subject } from '../subject.js';
import type { BuiltIn } from './built-in.js';

const config = z.strictObject({});

/** What the plugin knows of a target beyond what the engine does; absent where the registrator runs alone. */
const known = z.looseObject({
  volumeId: z.string(),
  iqn: z.string(),
  portal: z.string(),
  sizeBytes: z.number(),
  state: z.string(),
  error: z.string(),
  initiators: z.array(z.string()),
});
export type VsmFacts = z.infer<typeof known>;
/** Under which an inspection has them. */
export const VSM = 'Vsm';

function entryOf({ labels, name, node, container, inspect }: Subject): Record<string, unknown> | null {
  const volume = labels['openebs.volume'] ?? '';
  if (labels['openebs.role'] !== 'target' || volume === '' || !container) return null;
  const facts = known.safeParse(inspect[VSM]);
  const state = container.running ? 'running' : 'down';
  const entry = { volume, node: node.id, container: name, state, ...(facts.success ? facts.data : {}) };
  return { [`${keys.vsms}${encodeURIComponent(volume)}`]: entry };
}

export const vsm: BuiltIn<z.infer<typeof config>> = {
  name: 'vsm',
  config,
  merge: 'min',
  functions: { container: entryOf },
};
