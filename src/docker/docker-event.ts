/**
 * One message of the engine's event stream, in one shape for all engines: up to API 1.51 messages repeat
 * themselves in `status`, `id` and `from`, from 1.52 on those are gone, before 1.22 there was nothing else, and
 * podman leaves out what Docker fills in. What is not understood is kept as it is: a type or an action that this
 * version does not know is an event all the same.
 */
export const eventTypes = ['container', 'image', 'plugin', 'volume', 'network', 'daemon'] as const;

export interface DockerEvent {
  /** One of eventTypes, or one of swarm's (service, node, secret, config), builder, or what is yet to come. */
  readonly type: string;
  /** E.g. `start`, `exec_create: ls -l`, `health_status: healthy`. */
  readonly action: string;
  /** Id of the object; a volume's name; empty for `prune`. */
  readonly actorId: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** local or swarm. */
  readonly scope: string;
  /** Nanoseconds since 1970 in decimal: more digits than a number holds. */
  readonly timeNano: string;
}

type Json = Readonly<Record<string, unknown>>;

/** Null when the line is no event at all (not JSON, no action, no time). */
export function parseDockerEvent(line: string): DockerEvent | null {
  const message = parseObject(line);
  if (message === null) return null;
  const actor = asObject(message['Actor']);
  const attributes = textValues(asObject(actor['Attributes']));
  const action = actionOf(text(message['Action']) || text(message['status']), attributes);
  const timeNano = timeNanoOf(line, message);
  if (action === '' || timeNano === null) return null;
  return {
    type: text(message['Type']) || oldType(action),
    action,
    actorId: idOf(text(actor['ID']) || text(message['id']), action, attributes),
    attributes,
    scope: text(message['scope']) || 'local',
    timeNano,
  };
}

/** Equal for two deliveries of one event: what is asked for again after a reconnect overlaps what was seen. */
export function eventIdentity(event: DockerEvent): string {
  return `${event.type}\n${event.action}\n${event.actorId}\n${event.timeNano}`;
}

/** The action without what some carry after a colon: `exec_create: ls` is `exec_create`. */
export function actionName(event: DockerEvent): string {
  const colon = event.action.indexOf(':');
  return colon === -1 ? event.action : event.action.slice(0, colon);
}

function parseObject(line: string): Json | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}

function asObject(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function textValues(values: Json): Record<string, string> {
  // fromEntries, not assignment: a label may be called __proto__.
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  );
}

function actionOf(action: string, attributes: Readonly<Record<string, string>>): string {
  const health = attributes['health_status'];
  // podman: the outcome is an attribute, Docker has it in the action.
  return action === 'health_status' && health !== undefined ? `health_status: ${health}` : action;
}

/** podman's volume events carry the name as an attribute only; a prune is about no single object. */
function idOf(id: string, action: string, attributes: Readonly<Record<string, string>>): string {
  return id === '' && action !== 'prune' ? (attributes['name'] ?? '') : id;
}

const imageActions = new Set(['delete', 'import', 'load', 'pull', 'push', 'save', 'tag', 'untag']);

function oldType(action: string): string {
  return imageActions.has(action) ? 'image' : 'container';
}

/**
 * Taken from the text, since JSON.parse rounds it. Only the message itself can match: attribute values are
 * strings, so a digit never follows the colon there, and quotes inside them are escaped.
 */
function timeNanoOf(line: string, message: Json): string | null {
  const nanos = /"timeNano"\s*:\s*(\d{1,19})\b/.exec(line)?.[1];
  if (nanos !== undefined && Number(nanos) > 0) return nanos;
  const seconds = message['time'];
  if (typeof seconds !== 'number' || !Number.isSafeInteger(seconds) || seconds <= 0) return null;
  return String(BigInt(seconds) * 1_000_000_000n);
}
