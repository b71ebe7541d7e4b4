import { createHash } from 'node:crypto';
import { eventIdentity, type DockerEvent } from '../docker/docker-event.js';
import type { Gap } from '../docker/event-stream.js';
import { isSecret } from '../lib/secrets.js';
import { keys } from '../state/keys.js';
import type { EventRecord } from '../state/records.js';

// A label may be a whole file; a record tells what happened, it is no archive.
const maxValueChars = 4_096;
const maxNameChars = 1_024;
const maxAttributeChars = 65_536;

/**
 * What the journal keeps of an event. A value that was cut ends in "…" and the record has `truncated`. Labels are among
 * the attributes, and some hold a secret.
 */
export function recordOf(node: string, event: DockerEvent): EventRecord {
  const attributes: [string, string][] = [];
  let chars = 0;
  let truncated = false;
  for (const [name, value] of Object.entries(event.attributes)) {
    const pair: [string, string] = [
      cut(name, maxNameChars),
      isSecret(name, value) ? '[redacted]' : cut(value, maxValueChars),
    ];
    chars += pair[0].length + pair[1].length;
    if (pair[0] !== name || value.length > maxValueChars) truncated = true;
    if (chars > maxAttributeChars) {
      truncated = true;
      break;
    }
    attributes.push(pair);
  }
  return {
    schema: 1,
    node,
    type: event.type,
    action: cut(event.action, maxNameChars),
    actor: cut(event.actorId, maxNameChars),
    attributes: Object.fromEntries(attributes),
    scope: event.scope,
    timeNano: event.timeNano,
    ...(truncated ? { truncated } : {}),
  };
}

/**
 * A record of the journal about itself: type `journal`, action `gap` (events may be missing, from `since` to
 * `until`; also at each start, when nobody was listening before) or `lost` (`count` events were seen and could
 * not be written).
 */
export function noteOf(node: string, action: 'gap' | 'lost', gap: Omit<Gap, 'reason'> & { reason: string }) {
  const { reason, detail, sinceNano: since, untilNano: until, count } = gap;
  const attributes = {
    reason,
    detail,
    since,
    until,
    ...(count === undefined ? {} : { count: String(count) }),
  };
  return { type: 'journal', action, actorId: node, attributes, scope: 'local', timeNano: until };
}

/**
 * The same event has the same key on every delivery, so writing it a second time changes nothing. Keys sort by
 * time; a hash of what the event is tells apart those of one nanosecond.
 */
export function keyOf(node: string, event: DockerEvent): string {
  const hash = createHash('sha256').update(eventIdentity(event)).digest('hex').slice(0, 16);
  return keys.event(node, timePart(BigInt(event.timeNano)), hash);
}

/** Sorts before all keys of this moment and after all earlier ones. */
export function keyAt(node: string, nanos: bigint): string {
  return keys.event(node, timePart(nanos < 0n ? 0n : nanos), '');
}

/** About what a record takes in memory and on the wire. */
export function sizeOf(event: DockerEvent): number {
  let chars = 256 + event.action.length + event.actorId.length;
  for (const [name, value] of Object.entries(event.attributes)) {
    chars += name.length + Math.min(value.length, maxValueChars) + 8;
  }
  return chars;
}

function timePart(nanos: bigint): string {
  return nanos.toString().padStart(20, '0');
}

function cut(text: string, maxChars: number): string {
  return text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`;
}
