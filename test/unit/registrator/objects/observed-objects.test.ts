import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DockerEvent } from '../../../../src/docker/docker-event.js';
import type { EventListener, Gap } from '../../../../src/docker/event-stream.js';
import type { EngineObjects, ObjectKind } from '../../../../src/docker/objects.js';
import { AppError } from '../../../../src/errors.js';
import {
  createObservedObjects,
  type ObservedObjects,
} from '../../../../src/registrator/objects/observed-objects.js';
import { createLogLines } from '../../../support/log-lines.js';

/** An engine: what there is, and which looks fail or hang. */
const engine = new Map<string, Record<string, unknown>>();
const broken = new Set<string>();
const hanging = new Map<string, PromiseWithResolvers<undefined>>();
let inspections: string[];
let told: string[];
let tell: (kind: ObjectKind, id: string, object: unknown) => Promise<void>;
let listener: EventListener;
let observed: ObservedObjects;
let lines: ReturnType<typeof createLogLines>['lines'];

const objects: EngineObjects = {
  list(_ctx, kind) {
    if (broken.has(kind)) return Promise.reject(new AppError('unavailable', 'no list'));
    return Promise.resolve(
      [...engine.keys()].filter((key) => key.startsWith(`${kind} `)).map((key) => key.slice(kind.length + 1)),
    );
  },
  async inspect(_ctx, kind, id) {
    const key = `${kind} ${id}`;
    inspections.push(key);
    const found = engine.get(key);
    await hanging.get(key)?.promise;
    if (broken.has(key)) throw new AppError('internal', 'its driver is broken');
    return found ? structuredClone(found) : null;
  },
};

const gap: Gap = { reason: 'connected', detail: '', sinceNano: '1', untilNano: '2' };

function event(type: string, action: string, actorId: string, attributes = {}): DockerEvent {
  return { type, action, actorId, attributes, scope: 'local', timeNano: '1' };
}

function hear(...events: DockerEvent[]): void {
  void listener(events.map((one) => ({ kind: 'event', event: one })));
}

const settled = () =>
  vi.waitFor(() => {
    expect(observed.stats().pending).toBe(0);
  });

function start(): void {
  const logged = createLogLines();
  lines = logged.lines;
  observed = createObservedObjects({
    objects,
    log: logged.log,
    stream: {
      subscribe(given) {
        listener = given;
        return { close: () => undefined };
      },
    },
    onChange: (kind, id, object) => tell(kind, id, object),
    limits: { debounceMs: 5, passersByMs: 30, retryMinMs: 5, retryMaxMs: 20 },
  });
}

beforeEach(() => {
  engine.clear();
  broken.clear();
  hanging.clear();
  [inspections, told] = [[], []];
  tell = (kind, id, object) => {
    told.push(`${kind} ${id} ${object === null ? 'gone' : JSON.stringify(object)}`);
    return Promise.resolve();
  };
  start();
});

afterEach(async () => {
  for (const { resolve } of hanging.values()) resolve(undefined);
  await observed.close();
});

async function begin(): Promise<void> {
  void listener([{ kind: 'gap', gap }]);
  await observed.complete;
  told = [];
  inspections = [];
}

describe('the objects of an engine', () => {
  it('are all told at the start', async () => {
    engine
      .set('container a', { Id: 'a' })
      .set('volume v', { Name: 'v' })
      .set('daemon d', { ID: 'd', NFd: 7 });
    void listener([{ kind: 'gap', gap }]);
    await observed.complete;
    expect(told.toSorted()).toEqual([
      'container a {"Id":"a"}',
      'daemon d {"ID":"d"}',
      'volume v {"Name":"v"}',
    ]);
    expect(observed.stats().known).toEqual({ container: 1, volume: 1, daemon: 1 });
  });

  it('are told when they come, change and go, once for hints that come together', async () => {
    await begin();
    engine.set('container a', { Id: 'a', State: 1 });
    hear(event('container', 'create', 'a'), event('container', 'start', 'a'));
    await settled();
    engine.set('container a', { Id: 'a', State: 2 });
    hear(event('container', 'health_status: healthy', 'a'));
    await settled();
    hear(event('container', 'update', 'a'));
    await settled();
    engine.delete('container a');
    hear(event('container', 'destroy', 'a'));
    await settled();
    expect(told).toEqual([
      'container a {"Id":"a","State":1}',
      'container a {"Id":"a","State":2}',
      'container a gone',
    ]);
    expect(inspections).toHaveLength(4);
  });

  it('are looked at for what shows in them: a network or a volume in its container', async () => {
    engine.set('container a', { Id: 'a' }).set('network n', { Id: 'n' });
    await begin();
    hear(
      event('network', 'connect', 'n', { container: 'a' }),
      event('volume', 'mount', 'v', { container: 'a' }),
    );
    await settled();
    expect(inspections.toSorted()).toEqual(['container a', 'network n', 'volume v']);
  });

  it('are not looked at for what changes nothing', async () => {
    engine.set('container a', { Id: 'a' });
    await begin();
    hear(
      event('container', 'exec_create: ls', 'a'),
      event('container', 'top', 'a'),
      event('builder', 'prune', ''),
    );
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(inspections).toEqual([]);
  });

  it('are listed anew where an event does not say which, or some may be missing', async () => {
    engine.set('image sha256:1', { Id: 1 }).set('container a', { Id: 'a' });
    await begin();
    engine.delete('image sha256:1');
    engine.set('image sha256:2', { Id: 2 });
    hear(event('image', 'prune', ''));
    await vi.waitFor(() => {
      expect(told.toSorted()).toEqual(['image sha256:1 gone', 'image sha256:2 {"Id":2}']);
    });
    expect(inspections).not.toContain('container a');
    engine.delete('container a');
    void listener([{ kind: 'gap', gap: { ...gap, reason: 'reconnected' } }]);
    await vi.waitFor(() => {
      expect(told).toContain('container a gone');
    });
  });

  it('that cannot be inspected are tried again, and hold up none of the others', async () => {
    for (let index = 0; index < 20; index += 1) {
      engine.set(`volume bad${String(index)}`, {});
      broken.add(`volume bad${String(index)}`);
    }
    engine.set('container a', { Id: 'a' });
    await begin();
    engine.set('container b', { Id: 'b' });
    hear(event('container', 'create', 'b'));
    await vi.waitFor(() => {
      expect(told).toContain('container b {"Id":"b"}');
    });
    expect(lines.filter(({ msg }) => msg === 'not looked at: trying again')).toHaveLength(20);
    broken.clear();
    await vi.waitFor(() => {
      expect(observed.stats().known.volume).toBe(20);
    });
  });

  it('are told again to a listener that reads them in another way while it has one', async () => {
    engine.set('container a', { Id: 'a' });
    const first = Promise.withResolvers<undefined>();
    let asked = 0;
    tell = async (_kind, id) => {
      asked += 1;
      if (asked === 1) await first.promise;
      told.push(`${id} ${String(asked)}`);
    };
    hear(event('container', 'start', 'a'));
    await vi.waitFor(() => {
      expect(asked).toBe(1);
    });
    observed.retell();
    first.resolve(undefined);
    await vi.waitFor(() => {
      expect(told).toEqual(['a 1', 'a 2']);
    });
  });

  it('of a kind that cannot be listed are unknown, and not waited for', async () => {
    engine.set('container a', { Id: 'a' });
    broken.add('volume');
    await observed.close();
    start();
    void listener([{ kind: 'gap', gap }]);
    await observed.complete;
    expect(told).toEqual(['container a {"Id":"a"}']);
    expect(observed.isUnknown('volume', 'v')).toBe(true);
    expect(observed.isUnknown('container', 'a')).toBe(false);
  });

  it('come once a list that failed succeeds', async () => {
    engine.set('container a', { Id: 'a' });
    broken.add('container');
    void listener([{ kind: 'gap', gap }]);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(told).toEqual([]);
    broken.clear();
    await vi.waitFor(() => {
      expect(told).toEqual(['container a {"Id":"a"}']);
    });
  });

  it('are told in order, also when an inspection takes its time and they change meanwhile', async () => {
    await begin();
    engine.set('container a', { at: 1 });
    hanging.set('container a', Promise.withResolvers<undefined>());
    hear(event('container', 'create', 'a'));
    await vi.waitFor(() => {
      expect(inspections).toEqual(['container a']);
    });
    engine.set('container a', { at: 2 });
    hear(event('container', 'start', 'a'));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(inspections).toHaveLength(1);
    hanging.get('container a')?.resolve(undefined);
    hanging.clear();
    await settled();
    expect(told).toEqual(['container a {"at":1}', 'container a {"at":2}']);
  });

  it('are told again when whoever was told could not do with it', async () => {
    await begin();
    const first = tell;
    tell = () => {
      tell = first;
      return Promise.reject(new AppError('unavailable', 'not now'));
    };
    engine.set('container a', { Id: 'a' });
    hear(event('container', 'create', 'a'));
    await vi.waitFor(() => {
      expect(told).toEqual(['container a {"Id":"a"}']);
    });
  });

  it('are told as gone when whoever was told could not do with it, and they go before the next try', async () => {
    await begin();
    const first = tell;
    tell = () => {
      tell = first;
      engine.delete('container a');
      return Promise.reject(new AppError('unavailable', 'it has taken a part of it'));
    };
    engine.set('container a', { Id: 'a' });
    hear(event('container', 'create', 'a'));
    await vi.waitFor(() => {
      expect(told).toEqual(['container a gone']);
    });
  });

  it('that are gone when they are looked at, after whatever event, are told as gone if they were told', async () => {
    engine.set('container a', { Id: 'a' });
    await begin();
    engine.delete('container a');
    hear(event('container', 'start', 'a'), event('container', 'start', 'never'));
    await settled();
    expect(told).toEqual(['container a gone']);
    expect(observed.stats().failures).toBe(0);
  });

  it('are not looked at when they went before anybody could, unless they are there all the same', async () => {
    await begin();
    hear(event('volume', 'create', 'brief'), event('volume', 'destroy', 'brief'));
    hear(event('volume', 'create', 'again'), event('volume', 'destroy', 'again'));
    engine.set('volume again', { Name: 'again' });
    await settled();
    expect(inspections).toEqual(['volume again']);
    expect(told).toEqual(['volume again {"Name":"again"}']);
    engine.delete('volume again');
    hear(event('volume', 'destroy', 'again'));
    await settled();
    expect(told).toContain('volume again gone');
  });

  it('that went are listed until that can be told', async () => {
    await begin();
    engine.set('volume again', { Name: 'again' });
    broken.add('volume');
    hear(event('volume', 'create', 'again'), event('volume', 'destroy', 'again'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(inspections).toEqual([]);
    broken.clear();
    await vi.waitFor(() => {
      expect(told).toEqual(['volume again {"Name":"again"}']);
    });
  });

  it('that go while they are looked at are told as gone', async () => {
    await begin();
    engine.set('volume v', { Name: 'v' });
    hanging.set('volume v', Promise.withResolvers<undefined>());
    hear(event('volume', 'create', 'v'));
    await vi.waitFor(() => {
      expect(inspections).toEqual(['volume v']);
    });
    engine.delete('volume v');
    hear(event('volume', 'destroy', 'v'));
    hanging.get('volume v')?.resolve(undefined);
    hanging.clear();
    await settled();
    expect(told).toEqual(['volume v {"Name":"v"}', 'volume v gone']);
  });

  it('are looked at when a tag has left them, or an image was made, of which no event tells', async () => {
    const [one, other] = ['sha256:1', 'sha256:2'];
    engine.set(`image ${one}`, { RepoTags: ['app:1'] }).set(`image ${other}`, { RepoTags: [] });
    await begin();
    engine.set(`image ${one}`, { RepoTags: [] }).set(`image ${other}`, { RepoTags: ['app:1'] });
    hear(event('image', 'tag', other, { name: 'app:1' }));
    await vi.waitFor(() => {
      expect(told.toSorted()).toEqual([
        `image ${one} {"RepoTags":[]}`,
        `image ${other} {"RepoTags":["app:1"]}`,
      ]);
    });
    engine.set('image sha256:3', { RepoTags: [] });
    hear(event('container', 'commit', 'a'));
    await vi.waitFor(() => {
      expect(told).toContain('image sha256:3 {"RepoTags":[]}');
    });
    expect(inspections).not.toContain('container a');
  });

  it('are all told again when asked for', async () => {
    engine.set('container a', { Id: 'a' }).set('network n', { Id: 'n' });
    await begin();
    observed.retell();
    await vi.waitFor(() => {
      expect(told).toHaveLength(2);
    });
  });
});
