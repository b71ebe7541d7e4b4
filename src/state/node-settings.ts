/** What people have set for a host, as far as it is known here. */
import { keys } from './keys.js';
import { type NodeSettingsRecord, records } from './records.js';
import type { Replica } from './replica.js';

const nothingSet: NodeSettingsRecord = { schema: 1, labels: {}, drained: false };

/** One that cannot be read is as if nothing were set: it takes nobody's volumes away. */
export function settingsOf(replica: Pick<Replica, 'get'>, node: string): NodeSettingsRecord {
  const entry = replica.get(keys.nodeSettings(node));
  if (entry === null) return nothingSet;
  try {
    return records.nodeSettings.decode(entry.key, entry.value);
  } catch {
    return nothingSet;
  }
}
