/** Whatever is accepted of a user, or of a record, stays in its place: as a path, an argument, an item, a line. */
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { specText } from '../../../src/dataplane/role-spec.js';
import { AppError } from '../../../src/errors.js';
import { quote } from '../../../src/lib/quote.js';
import { fileSystems, records } from '../../../src/state/records.js';
import { keys } from '../../../src/state/keys.js';
import { describeMkfsOptions } from '../../../src/volumes/mkfs-options.js';
import { describeMountOptions } from '../../../src/volumes/mount-options.js';
import { optionRows, parseOptions, type VolumeSpec } from '../../../src/volumes/options.js';
import { newAttachmentRecord, newTargetRecord, newVolumeRecord } from '../../../src/volumes/volume.js';
import { parseVolumeName } from '../../../src/volumes/volume-name.js';

const defaults = { sizeBytes: 2 ** 30, fs: 'ext4', pool: 'default' } as const;
const paths = createHostPaths('/host', '/mnt/openebs');
const state = '/var/lib/openebs/';

/** What breaks out of somewhere, mixed with what is allowed. */
const breakers = [
  ...[
    '..',
    '../..',
    '/',
    '\\',
    '\n',
    '\r',
    '\0',
    ' ',
    '\t',
    ',',
    ';',
    '|',
    '&',
    '$(id)',
    '`id`',
    "'",
    '"',
    '%s',
  ],
  ...[
    '%2e%2e',
    '*',
    '?',
    '~',
    '{a,b}',
    '-',
    '--',
    '-o',
    '-F',
    '=',
    '#',
    '<',
    '>',
    '!',
    '\u2028',
    '\u202e',
    'é',
  ],
  ...[
    '__proto__',
    'constructor',
    'toString',
    ':',
    '@',
    '^',
    '[',
    ']',
    '\x1b[2J',
    'a',
    'A',
    '0',
    '1',
    'G',
    '.',
    '_',
  ],
];
const piece = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...breakers) }, fc.string({ maxLength: 4 }));
const hostile = fc.array(piece, { maxLength: 6 }).map((parts) => parts.join(''));

/** Words that stand in the tables of what is allowed: with them random text is often accepted. */
const words = fileSystems.flatMap((fs) =>
  [describeMkfsOptions(fs), describeMountOptions(fs)].flatMap((text) => text.match(/[-a-z0-9_^]+/gi) ?? []),
);
const values = [
  '0',
  '1',
  '1024',
  '4096',
  '512',
  '50',
  'ordered',
  'zstd:3',
  'size=512',
  'reflink=1',
  'label',
  'dup',
];
const right = {
  mkfs: [
    '-m 1',
    '-i 4096',
    '-L data.1',
    '-O ^has_journal',
    '-n size=4096',
    '-m reflink=1',
    '-d dup',
    '--csum=xxhash',
  ],
  mount: [
    'noatime',
    'commit=5',
    'discard',
    'compress=zstd:3',
    'allocsize=64k',
    'nosuid',
    'data=ordered',
    'nodev',
  ],
};
const word = fc.oneof(fc.constantFrom(...words), fc.constantFrom(...values), piece);
const list = (kind: keyof typeof right, separator: string) =>
  fc
    .array(fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...right[kind]) }, word), { maxLength: 3 })
    .map((items) => items.join(separator));
const usual = (common: readonly string[]) =>
  fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...common) }, hostile);

const anyOptions = fc.record(
  {
    size: usual(['1G', '400M', '1T', '2g']),
    fs: usual(fileSystems),
    mkfs: list('mkfs', ' '),
    mount: list('mount', ','),
    uid: usual(['0', '1000', '4294967294']),
    gid: usual(['0', '100']),
    mode: usual(['0755', '7777', '0o644']),
    pool: usual(['default', 'fast-1', 'a..b', 'a.b_c']),
  },
  { requiredKeys: [] },
);

/** What the parser accepts; undefined for what it refuses, which it must do with words fit for a terminal. */
function accepted(options: Readonly<Record<string, string>>): VolumeSpec | undefined {
  try {
    return parseOptions(options, defaults);
  } catch (reason) {
    expect(reason).toBeInstanceOf(AppError);
    expect((reason as AppError).code).toBe('invalid_argument');
    expect((reason as AppError).message).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    return undefined;
  }
}

const inside = (directory: string, file: string) =>
  path.normalize(file) === file && file.startsWith(directory) && file.length > directory.length;

/** Flags that a tool of ours must never be given, whatever the user says. */
const neverFlags = [
  '-F',
  '-f',
  '-n',
  '-r',
  '-J',
  '-E',
  '-U',
  '-S',
  '-t',
  '-c',
  '-l',
  '-d',
  '-p',
  '-K',
  '-q',
  '-o',
  '-D',
];
const allowedTwice: Readonly<Record<string, readonly string[]>> = { xfs: ['-n'], btrfs: ['-n', '-d'] };

function expectSafe(spec: VolumeSpec): void {
  expect(spec.pool).toMatch(/^[a-z0-9][a-z0-9_.-]*$/);
  for (const argument of spec.mkfsOptions) {
    expect(argument).toMatch(/^[A-Za-z0-9^_.,=-]+$/);
    if (!argument.startsWith('-')) continue;
    const own = allowedTwice[spec.fs] ?? [];
    expect(neverFlags.filter((flag) => !own.includes(flag))).not.toContain(argument);
    expect(argument).toMatch(/^(-[A-Za-z]|--[a-z]+)$/);
  }
  // No value begins with a dash: no tool takes one for the next flag.
  spec.mkfsOptions.forEach((argument, index) => {
    const isFlag = argument.startsWith('-');
    if (!isFlag) expect(spec.mkfsOptions[index - 1]).toMatch(/^-/);
  });
  for (const option of spec.mountOptions) {
    expect(option).toMatch(/^[a-z0-9_]+[a-z0-9_-]*(=[a-z0-9:-]+)?$/);
    expect(option).not.toMatch(
      /^(suid|dev|exec|loop|offset|sizelimit|bind|rbind|move|remount|ro|rw|user|users|owner|group|uid|gid|x-.*|_netdev|defaults|(make-)?(r?(shared|slave|private|unbindable))|journal_(path|dev|ioprio|async_commit)|logdev|rtdev|device|subvol.*|norecovery|noload|nouuid|degraded|rescue|sb|dax.*|context|fscontext|rootcontext|errors=panic|init_itable=0|abort|debug.*|test_dummy.*|fatal_errors|nombcache|bsdgroups)(=|$)/,
    );
  }
}

describe('a name of a volume', () => {
  it('that is accepted is one key, one label and one line', () => {
    fc.assert(
      fc.property(hostile, (name) => {
        try {
          parseVolumeName(name);
        } catch (reason) {
          expect((reason as AppError).message).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
          return;
        }
        expect(keys.volume(name)).toBe(`${keys.volumes}${name}`);
        expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9_.-]+$/);
      }),
      { numRuns: 5000 },
    );
  });

  it('is not in any path: what is made for it is named after its id', () => {
    fc.assert(
      fc.property(fc.constantFrom('a..b', 'con.', 'x'.repeat(255), 'UPPER', 'disk.img'), (name) => {
        const volume = newVolumeRecord(name, parseOptions({}, defaults));
        expect(volume.id).toMatch(/^v[a-z0-9]{9}$/);
        const placement = { node: 'n', address: '127.0.0.1', port: 13_260 };
        const made = [newTargetRecord(volume, placement), newAttachmentRecord(volume, 'n/../x,y z')];
        expect(JSON.stringify([volume.id, made[0]!.volumeId, made[1]!.volumeId])).not.toContain(name);
      }),
    );
  });
});

describe('options', () => {
  it('that are accepted stay in their directory, their argument and their item', () => {
    let count = 0;
    fc.assert(
      fc.property(anyOptions, (options) => {
        const spec = accepted(options);
        if (!spec) return;
        count++;
        expectSafe(spec);
        expect(inside(`${state}pools/`, paths.pool(spec.pool))).toBe(true);
        expect(inside(`${state}pools/`, paths.backingFile(spec.pool, 'v123456789'))).toBe(true);
        expect(Number.isSafeInteger(spec.sizeBytes) && spec.sizeBytes % 4096 === 0).toBe(true);
        for (const owner of [spec.uid, spec.gid]) expect(owner >= 0 && owner < 2 ** 32 - 1).toBe(true);
        expect(spec.mode & ~0o7777).toBe(0);
        // A record of it is read back: the shapes of records refuse nothing that users may ask for.
        const volume = newVolumeRecord('db', spec);
        expect(records.volume.decode('k', records.volume.encode(volume))).toMatchObject(volume);
      }),
      { numRuns: 8000 },
    );
    // Else the property says nothing.
    expect(count).toBeGreaterThan(500);
  }, 60_000);

  it.each(fileSystems)(
    'for %s are accepted only item by item',
    (fs) => {
      let count = 0;
      const one = fc.record({
        fs: fc.constant(fs),
        mkfs: fc.tuple(word, fc.constantFrom(' ', '=', ''), word).map((parts) => parts.join('')),
        mount: fc.tuple(word, fc.constantFrom('=', '', ','), word).map((parts) => parts.join('')),
        size: fc.constant('1G'),
      });
      for (const only of ['mkfs', 'mount'] as const) {
        fc.assert(
          fc.property(one, (options) => {
            const spec = accepted({ fs, size: '1G', [only]: options[only] });
            if (!spec) return;
            count++;
            expectSafe(spec);
          }),
          { numRuns: 4000 },
        );
      }
      expect(count).toBeGreaterThan(10);
    },
    60_000,
  );

  it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])('know no option %s', (name) => {
    const options = JSON.parse(`{${JSON.stringify(name)}:"x"}`) as Record<string, string>;
    expect(() => parseOptions(options, defaults)).toThrow(`there is no option "${name}"`);
  });

  it.each([
    ...[
      'suid',
      'dev',
      'exec',
      'loop',
      'loop=/dev/loop0',
      'offset=1',
      'bind',
      'rbind',
      'remount',
      'ro',
      'rw',
      'user',
    ],
    ...[
      'x-mount.mkdir',
      'x-mount.subdir=..',
      'errors=panic',
      'journal_path=/etc',
      'journal_dev=1',
      'norecovery',
    ],
    ...[
      'noload',
      'sb=1',
      'context=x',
      'dax',
      'make-rshared',
      'shared',
      'noatime,suid',
      'noatime\nsuid',
      'noatime suid',
    ],
    ...[
      'subvol=/x',
      'device=/dev/sda',
      'logdev=/dev/sda',
      'degraded',
      'rescue=all',
      'abort',
      'uid=0',
      '--bind',
      '-o',
    ],
  ])('refuse to mount with %j', (mount) => {
    for (const fs of fileSystems) expect(accepted({ fs, size: '1G', mount })).toBeUndefined();
  });

  it.each([
    ...[
      '-F',
      '-f',
      '-n /x',
      '-E offset=1',
      '-J device=/dev/sda',
      '-l logdev=/dev/sda',
      '-d file',
      '-d name=/dev/sda',
    ],
    ...[
      '-r rtdev=/x',
      '-p /etc/passwd',
      '-c /etc/x',
      '-U random',
      '-r',
      '--rootdir /etc',
      '--rootdir=/etc',
      '/dev/sda',
    ],
    ...['-L -F', '-L --', '-L ../x', '-L a,b', '-L a%sb', '--', '-', '-m 0 /dev/sda', '-L x\n-F', '-L x\0'],
    ...['-S', '-D', '-K', '-q', '-o x', '-V', '-t ext2', '-z x', '-e panic', '-g 1', '-C 4096', '--help'],
  ])('refuse to format with %j', (mkfs) => {
    for (const fs of fileSystems) {
      const spec = accepted({ fs, size: '1G', mkfs });
      if (spec) expectSafe(spec);
      // btrfs and xfs have a -n of their own, with a number.
      expect(spec).toBeUndefined();
    }
  });

  it('are all of the table above', () => {
    const known = ['size', 'fs', 'mkfs', 'mount', 'uid', 'gid', 'mode', 'pool', 'help'];
    expect(optionRows.map(([name]) => name)).toEqual(known);
  });
});

describe('a record', () => {
  const volume = newVolumeRecord('db', parseOptions({}, defaults));
  const target = newTargetRecord(volume, { node: 'n', address: '127.0.0.1', port: 13_260 });
  const attachment = newAttachmentRecord(volume, 'n');

  it('of shared state leads nowhere else, whatever stands in it', () => {
    fc.assert(
      fc.property(hostile, fc.constantFrom('id', 'pool', 'name'), (value, field) => {
        let read;
        try {
          read = records.volume.decode('k', JSON.stringify({ ...volume, [field]: value }));
        } catch (reason) {
          expect(reason).toMatchObject({ code: 'internal' });
          return;
        }
        expect(inside(`${state}pools/`, paths.backing(read.pool, read.id))).toBe(true);
        expect(inside(`${state}pools/${read.pool}/`, paths.backing(read.pool, read.id))).toBe(true);
        expect(inside(`${state}containers/`, paths.container(`openebs-target-${read.id}`))).toBe(true);
        expect(inside('/mnt/openebs/', paths.mountpoint(read.id))).toBe(true);
      }),
      { numRuns: 5000 },
    );
  });

  it.each([
    [{ id: '../../../etc' }],
    [{ id: '' }],
    [{ id: '.' }],
    [{ pool: '..' }],
    [{ pool: 'a/b' }],
    [{ name: 'a/b' }],
    [{ mkfsOptions: ['-L', '/dev/sda'] }],
    [{ mkfsOptions: ['a b'] }],
    [{ mountOptions: ['noatime,suid'] }],
    [{ mountOptions: ['journal_path=/etc'] }],
    [{ mode: 0o10000 }],
  ])('of a volume with %j is damaged', (change) => {
    expect(() => records.volume.decode('k', JSON.stringify({ ...volume, ...change }))).toThrow('is damaged');
  });

  it.each([
    [{ iqn: 'iqn.a,lun=0' }],
    [{ iqn: 'iqn.a\nport 1' }],
    [{ address: 'localhost' }],
    [{ address: '127.0.0.1,user=x' }],
    [{ port: 0 }],
    [{ port: 65_536 }],
    [{ volumeId: '../x' }],
    [{ pool: '../x' }],
  ])('of a target with %j is damaged', (change) => {
    expect(() => records.target.decode('k', JSON.stringify({ ...target, ...change }))).toThrow('is damaged');
  });

  it.each([
    [{ initiatorIqn: 'iqn.a user secret' }],
    [{ chapUser: 'u,password=x' }],
    [{ chapSecret: 'a,b' }],
    [{ chapSecret: 'a\nb' }],
    [{ chapSecret: '' }],
    [{ epoch: -1 }],
    [{ volumeId: 'x/y' }],
  ])('of an attachment with %j is damaged, and its secret is not told', (change) => {
    const text = JSON.stringify({ ...attachment, ...change });
    expect(() => records.attachment.decode('k', text)).toThrow('is damaged');
    try {
      records.attachment.decode('k', text);
    } catch (reason) {
      expect(String(reason)).not.toContain(attachment.chapSecret);
    }
  });
});

describe('a spec of a role', () => {
  it('has one line for each value, or is not written', () => {
    fc.assert(
      fc.property(hostile, hostile, (key, value) => {
        let text;
        try {
          text = specText({ lines: [[key, value]], secrets: {} }, '0123456789abcdef');
        } catch (reason) {
          expect(reason).toMatchObject({ code: 'internal' });
          return;
        }
        expect(text.split(/[\n\r\u0085]/)).toEqual(['generation 0123456789abcdef', `${key} ${value}`, '']);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('text from outside', () => {
  it('is one line without control characters when it is quoted', () => {
    fc.assert(
      fc.property(fc.oneof(hostile, fc.string({ unit: 'binary' })), (text) => {
        expect(quote(text)).toMatch(/^"[^\p{C}\p{Zl}\p{Zp}]*"(\.\.\. \(\d+ characters\))?$/u);
      }),
      { numRuns: 5000 },
    );
  });
});
