/**
 * What Docker sends and reads on the wire. Field names are Docker's. Unknown fields are ignored, as a newer
 * engine may send some.
 */
import { z } from 'zod';
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import { parseVolumeName } from '../volumes/volume-name.js';
import type { VolumeView } from '../volumes/volume-service.js';

export interface VolumeMessage {
  readonly Name: string;
  readonly Mountpoint: string;
  readonly CreatedAt: string;
  readonly Status?: Readonly<Record<string, unknown>>;
}

/** Each answer but Activate's and Capabilities' has an Err; empty means success. */
export type Answer =
  | { readonly Implements: readonly string[] }
  | { readonly Capabilities: { readonly Scope: 'global' } }
  | { readonly Err: string; readonly Mountpoint?: string }
  | { readonly Err: string; readonly Volume: VolumeMessage }
  | { readonly Err: string; readonly Volumes: readonly VolumeMessage[] };

const record = z.record(z.string(), z.unknown());

/** True for what an engine's retry looks like: it repeats the request, but without the body. */
export function isEmptyBody(body: Buffer | undefined): boolean {
  return body === undefined || body.toString('utf8').trim() === '';
}

/** The body as an object, whatever the Content-Type says. @throws AppError `invalid_argument`. */
export function parseBody(body: Buffer | undefined): Readonly<Record<string, unknown>> {
  if (isEmptyBody(body)) {
    throw new AppError(
      'invalid_argument',
      'the request came without a body, as an engine repeats one whose answer was lost; run the command again',
    );
  }
  let json: unknown;
  try {
    json = JSON.parse((body ?? Buffer.alloc(0)).toString('utf8'));
  } catch (cause) {
    throw new AppError('invalid_argument', 'the request body is not JSON', { cause });
  }
  const parsed = record.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new AppError('invalid_argument', 'the request body is not a JSON object');
}

function readString(body: Readonly<Record<string, unknown>>, field: string): string {
  const value = body[field];
  if (typeof value === 'string' && value !== '') return value;
  throw new AppError('invalid_argument', `the request has no ${field}: it must be a string and not empty`);
}

export function readName(body: Readonly<Record<string, unknown>>): string {
  return readString(body, 'Name');
}

/** The name of a volume that should be there. @throws AppError `not_found` for one that no volume can have. */
export function readKnownName(body: Readonly<Record<string, unknown>>): string {
  const name = readName(body);
  try {
    return parseVolumeName(name);
  } catch (cause) {
    throw new AppError('not_found', `volume ${quote(name)} does not exist`, { cause });
  }
}

/** The engine's are 64 hexadecimal digits. They are kept in a file and logged. */
const maxMountIdLength = 255;

export function readMountId(body: Readonly<Record<string, unknown>>): string {
  const id = readString(body, 'ID');
  if (id.length <= maxMountIdLength && !/\p{Cc}/u.test(id)) return id;
  const text = `the ID ${quote(id)} is not allowed: use up to ${String(maxMountIdLength)} characters, none of them control`;
  throw new AppError('invalid_argument', text);
}

/** The driver options; null when the user gave none. */
export function readOptions(body: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  const given = body['Opts'] ?? {};
  const parsed = record.safeParse(given);
  if (!parsed.success) throw new AppError('invalid_argument', 'Opts must be an object of strings');
  const entries = Object.entries(parsed.data).map(([name, value]): [string, string] => {
    if (typeof value === 'string') return [name, value];
    const kind = value === null ? 'null' : typeof value;
    throw new AppError('invalid_argument', `option ${quote(name)} must be a string, not ${kind}`);
  });
  return Object.fromEntries(entries);
}

export function toListed(view: VolumeView): VolumeMessage {
  return { Name: view.name, Mountpoint: view.mountpoint, CreatedAt: view.createdAt };
}

export function toInspected(view: VolumeView): VolumeMessage {
  return { ...toListed(view), Status: { ...view.status } };
}
