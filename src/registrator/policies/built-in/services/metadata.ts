/**
 * What a container says of its services, in labels and environment, as gliderlabs' registrator reads it: SERVICE_NAME,
 * SERVICE_TAGS, SERVICE_ID, SERVICE_IGNORE and any other SERVICE_KEY, for all ports, or with the port in between
 * (SERVICE_80_NAME), or port and protocol (SERVICE_53_UDP_NAME). Labels count before the environment, and what is said of
 * one port before what is said of all.
 */
import { isSecret } from '../../../../lib/secrets.js';
import type { ContainerOfSubject } from '../../subject.js';

export interface ServiceMetadata {
  /** Empty: not said. */
  readonly name: string;
  readonly id: string;
  readonly tags: readonly string[];
  readonly ignore: boolean;
  /** Whether the name was said of this port alone. */
  readonly isNamedByPort: boolean;
  /** All others, by their name in lower case. */
  readonly attributes: Readonly<Record<string, string>>;
}

const OWN = ['name', 'id', 'tags', 'ignore'];

export function metadataOf(
  { env }: Pick<ContainerOfSubject, 'env'>,
  labels: Readonly<Record<string, string>>,
  { port, protocol }: { readonly port: number; readonly protocol: string },
): ServiceMetadata {
  const said = [...Object.entries(env), ...Object.entries(labels)].flatMap(([name, value]) => {
    const item = parse(name);
    const isOfIt = item && (item.port ?? port) === port && (item.protocol ?? protocol) === protocol;
    return isOfIt ? [{ ...item, value }] : [];
  });
  // The sort is stable: of two that are equally close, the label comes last and counts.
  const all = new Map(said.toSorted((a, b) => closeness(a) - closeness(b)).map((item) => [item.key, item]));
  const textOf = (key: string) => all.get(key)?.value ?? '';
  return {
    name: textOf('name'),
    id: textOf('id'),
    tags: tagsOf(textOf('tags')),
    // Any value, "false" as well: that is how it is read there.
    ignore: textOf('ignore') !== '',
    isNamedByPort: all.get('name')?.port !== undefined,
    attributes: Object.fromEntries(
      [...all.values()]
        .filter(({ key, value }) => !OWN.includes(key) && value !== '' && !isSecret(key, value))
        .map(({ key, value }) => [key, value]),
    ),
  };
}

interface Item {
  readonly key: string;
  /** Undefined: of all ports, all protocols. */
  readonly port?: number;
  readonly protocol?: string;
}

function parse(name: string): Item | null {
  const [, port, protocol, plain] = /^SERVICE_(?:(\d+)_)?(?:(tcp|udp|sctp)_)?(.+)$/i.exec(name) ?? [];
  if (plain === undefined || !name.startsWith('SERVICE_')) return null;
  // Without a port, what looks like a protocol is part of a name.
  if (port === undefined) return { key: name.slice('SERVICE_'.length).toLowerCase() };
  const key = plain.toLowerCase();
  return protocol === undefined
    ? { key, port: Number(port) }
    : { key, port: Number(port), protocol: protocol.toLowerCase() };
}

function closeness({ port, protocol }: Item): number {
  if (protocol !== undefined) return 2;
  return port === undefined ? 0 : 1;
}

/** Split at commas; `\,` is a comma within. */
export function tagsOf(text: string): string[] {
  return text
    .split(/(?<!\\),/)
    .map((tag) => tag.replaceAll('\\,', ','))
    .filter((tag) => tag !== '');
}
