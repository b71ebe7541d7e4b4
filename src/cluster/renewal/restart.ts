/**
 * Whether the container of a member that runs has to wait for its turn: what is different about it is of this version of
 * the plugin alone, and it serves. All else cannot wait, or loses nothing: a member that does not serve, or that listens
 * where nobody looks for it.
 */
import type { RoleStatus } from '../../dataplane/role-client.js';

/** What a member's container is made from. */
export interface MemberForm {
  readonly image: string | null | undefined;
  /** etcd's configuration, JSON; null: it cannot be read. */
  readonly configuration: string | null;
}

export function canWait(
  state: RoleStatus['state'] | undefined,
  running: MemberForm,
  wanted: MemberForm,
): boolean {
  if (state !== 'ready' || addressesIn(running) !== addressesIn(wanted)) return false;
  return running.image !== wanted.image || running.configuration !== wanted.configuration;
}

const ADDRESSES = ['listen-client-urls', 'advertise-client-urls', 'listen-peer-urls'];

/** As text, to compare; empty when it cannot be read. */
function addressesIn({ configuration }: MemberForm): string {
  try {
    const settings = JSON.parse(configuration ?? '') as Record<string, unknown>;
    return JSON.stringify(ADDRESSES.map((name) => settings[name]));
  } catch {
    return '';
  }
}
