/** What a case has in hand: the driver under test, names of its own, and words for what must hold. */
import { Complaint, Connection, request, type Reply, type Shape } from './wire.js';

export interface VolumeMessage {
  readonly Name?: unknown;
  readonly Mountpoint?: unknown;
  readonly CreatedAt?: unknown;
  readonly Status?: unknown;
}

export interface Answer {
  /** True when the connection ended without an answer. */
  readonly dropped: boolean;
  readonly status: number;
  /** As Docker reads it: empty means success. */
  readonly err: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly took: string;
  readonly ms: number;
}

export type Options = Readonly<Record<string, unknown>> | null;
export type Method = 'Create' | 'Remove' | 'Mount' | 'Unmount' | 'Path' | 'Get' | 'List' | 'Capabilities';

export interface Settings {
  readonly socketPath: string;
  readonly prefix: string;
  readonly createOpts: Options;
  /** Instead of Docker's own limits. */
  readonly limitMs: number | null;
  readonly idleMs: number;
  readonly volumes: number;
  readonly calls: number;
  readonly latencyBarMs: number;
}

/** How long Docker waits: two minutes for what may be slow, one for the rest. */
const slow: readonly string[] = ['Create', 'Mount'];
const shown = 160;

export function shorten(text: string, length = shown): string {
  const line = text.replace(/[\p{Cc}\p{Cf}]/gu, (char) => JSON.stringify(char).slice(1, -1));
  return line.length <= length ? line : `${line.slice(0, length)}... (${String(line.length)} characters)`;
}

/** The run is over; nothing is said about the driver. */
export class Interrupted extends Error {}

/** Everything sent to the driver goes through here, so that it can be told, stopped and cleaned up. */
export class Trial {
  readonly settings: Settings;
  /** The last exchanges, oldest first. */
  readonly transcript: string[] = [];
  /** Names that a Create was sent for; a case's own ones are removed at its end. */
  readonly touched = new Set<string>();
  /** Volume name -> mount ids, each as often as it may be held. */
  readonly mounts = new Map<string, string[]>();
  readonly #open = new Set<Connection>();
  #names = 0;
  #stopped = false;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  /** From now on every call fails, until `resume`: the run was interrupted. */
  stop(): void {
    this.#stopped = true;
    this.hangUp();
  }

  resume(): void {
    this.#stopped = false;
  }

  hangUp(): void {
    for (const connection of this.#open) connection.close();
    this.#open.clear();
  }

  /** A name that nobody has used. */
  name(): string {
    this.#names += 1;
    return `${this.settings.prefix}-${String(this.#names)}`;
  }

  id(): string {
    return Array.from({ length: 64 }, () => Math.floor(Math.random() * 16).toString(16)).join('');
  }

  limitMs(method: string): number {
    return this.settings.limitMs ?? (slow.includes(method) ? 120_000 : 60_000);
  }

  async open(): Promise<Connection> {
    if (this.#stopped) throw new Interrupted('interrupted');
    const connection = await Connection.open(this.settings.socketPath);
    this.#open.add(connection);
    return connection;
  }

  /** A call as Docker makes it, with the newline that Go's encoder ends a body with. */
  call(method: Method, body: unknown = {}, shape: Shape = {}): Promise<Answer> {
    this.#note(method, body);
    return this.post(method, `${JSON.stringify(body)}\n`, shape);
  }

  async post(method: Method, body: string | Buffer, shape: Shape = {}): Promise<Answer> {
    const connection = await this.open();
    try {
      return await this.on(connection, method, body, shape);
    } finally {
      connection.close();
      this.#open.delete(connection);
    }
  }

  /** The same on a connection that stays. */
  on(connection: Connection, method: Method, body: string | Buffer, shape: Shape = {}): Promise<Answer> {
    const verb = shape.method === undefined ? '' : `${shape.method} `;
    connection.send(request(`/VolumeDriver.${method}`, body, shape));
    return this.answer(connection, method, `${verb}${method} ${shorten(body.toString().trim())}`);
  }

  /** Reads an answer of whatever was sent. */
  async answer(connection: Connection, method: string, sent: string): Promise<Answer> {
    const start = performance.now();
    let reply: Reply | null;
    try {
      reply = await connection.next(this.limitMs(method));
    } catch (reason) {
      this.tell(`${sent} -> ${reason instanceof Error ? reason.message : String(reason)}`);
      throw reason;
    }
    if (this.#stopped) throw new Interrupted('interrupted');
    const ms = performance.now() - start;
    const got = reply
      ? `${String(reply.status)} ${shorten(reply.text.trim())}`
      : 'connection closed, no answer';
    this.tell(`${sent} -> ${got}`);
    return read(reply, { took: `${sent} -> ${got}`, ms });
  }

  tell(line: string): void {
    this.transcript.push(line);
    if (this.transcript.length > 200) this.transcript.shift();
  }

  create(name: string, opts: Options = this.settings.createOpts): Promise<Answer> {
    return this.call('Create', { Name: name, Opts: opts });
  }

  /** A new volume. */
  async volume(opts: Options = this.settings.createOpts): Promise<string> {
    const name = this.name();
    ok(await this.create(name, opts));
    return name;
  }

  async mount(name: string, id = this.id()): Promise<string> {
    const answer = ok(await this.call('Mount', { Name: name, ID: id }));
    must(typeof answer.json['Mountpoint'] === 'string', 'Mount must answer a Mountpoint', answer);
    return answer.json['Mountpoint'];
  }

  unmount(name: string, id: string): Promise<Answer> {
    return this.call('Unmount', { Name: name, ID: id });
  }

  remove(name: string): Promise<Answer> {
    return this.call('Remove', { Name: name });
  }

  /** The volume as Get has it; the Name must be the one asked for. */
  async get(name: string): Promise<VolumeMessage> {
    const answer = ok(await this.call('Get', { Name: name }));
    const volume = answer.json['Volume'] as VolumeMessage | null | undefined;
    must(volume?.Name === name, `Get must answer the volume ${shorten(name, 40)}`, answer);
    return volume;
  }

  async list(): Promise<readonly VolumeMessage[]> {
    const answer = ok(await this.call('List'));
    const volumes = answer.json['Volumes'] ?? [];
    must(Array.isArray(volumes), 'Volumes must be an array or null', answer);
    return volumes as VolumeMessage[];
  }

  async listed(name: string): Promise<readonly VolumeMessage[]> {
    return (await this.list()).filter((volume) => volume.Name === name);
  }

  /** Get and List must agree that it is there, once. */
  async present(name: string): Promise<void> {
    const { length } = await this.listed(name);
    must(length === 1, `List must have ${shorten(name, 40)} once, and has it ${String(length)} times`);
    await this.get(name);
  }

  /** Get and List must agree that it is not there. */
  async absent(name: string): Promise<void> {
    must((await this.listed(name)).length === 0, `List must not have ${shorten(name, 40)}`);
    failed(await this.call('Get', { Name: name }), 'Get of a volume that is not there must answer Err');
  }

  /** Whichever it is, Get and List must agree. */
  async agree(name: string): Promise<boolean> {
    if ((await this.listed(name)).length === 0) {
      await this.absent(name);
      return false;
    }
    await this.present(name);
    return true;
  }

  /** What the suite has to take back, whatever the answer will be. */
  #note(method: Method, body: unknown): void {
    const { Name, ID } = (body ?? {}) as { Name?: unknown; ID?: unknown };
    if (typeof Name !== 'string') return;
    if (method === 'Create') this.touched.add(Name);
    if (method === 'Mount' && typeof ID === 'string') this.expectMount(Name, ID);
  }

  expectMount(name: string, id: string): void {
    this.mounts.set(name, [...(this.mounts.get(name) ?? []), id]);
  }
}

function read(reply: Reply | null, { took, ms }: { took: string; ms: number }): Answer {
  if (!reply) return { dropped: true, status: 0, err: 'connection closed, no answer', json: {}, took, ms };
  const json = parse(reply, took);
  const { status } = reply;
  const told = json['Err'];
  if (status === 200) {
    const fits = told === undefined || told === null || typeof told === 'string';
    if (!fits) throw new Complaint(`Err must be a string: ${took}`);
    return { dropped: false, status, err: told ?? '', json, took, ms };
  }
  // Docker shows the Err of any other status, or else the whole body.
  const text = typeof told === 'string' && told !== '' ? told : reply.text.trim();
  return { dropped: false, status, err: text === '' ? `status ${String(status)}` : text, json, took, ms };
}

function parse({ status, text }: Reply, took: string): Readonly<Record<string, unknown>> {
  try {
    const json: unknown = JSON.parse(text);
    if (typeof json === 'object' && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>;
  } catch {
    // told below
  }
  if (status === 200) throw new Complaint(`an answer with status 200 must be a JSON object: ${took}`);
  return {};
}

export function must(condition: boolean, rule: string, answer?: Answer): asserts condition {
  if (!condition) throw new Complaint(answer ? `${rule}: ${answer.took}` : rule);
}

export function ok(answer: Answer, rule = 'this must succeed'): Answer {
  must(answer.err === '', rule, answer);
  return answer;
}

/** An Err, told to the user in words. */
export function failed(answer: Answer, rule = 'this must be answered with Err'): Answer {
  must(!answer.dropped && answer.err !== '', rule, answer);
  return answer;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Asks again until it does not complain. */
export async function eventually(limitMs: number, ask: () => Promise<unknown>): Promise<void> {
  const until = performance.now() + limitMs;
  for (;;) {
    try {
      await ask();
      return;
    } catch (reason) {
      if (performance.now() > until || reason instanceof Interrupted) throw reason;
      await sleep(250);
    }
  }
}
