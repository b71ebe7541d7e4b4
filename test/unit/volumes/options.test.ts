import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { fileSystems } from '../../../src/state/records.js';
import {
  describeDifference,
  parseOptions,
  sameSpec,
  type OptionDefaults,
  type VolumeSpec,
} from '../../../src/volumes/options.js';

const gib = 1024 ** 3;
const defaults: OptionDefaults = { sizeBytes: 10 * gib, fs: 'ext4', pool: 'default' };

function parse(options: Record<string, string>): VolumeSpec {
  return parseOptions(options, defaults);
}

function refusal(options: Record<string, string>): string {
  try {
    parse(options);
  } catch (reason) {
    expect(reason).toMatchObject({ name: 'AppError', code: 'invalid_argument' });
    return (reason as AppError).message;
  }
  throw new Error(`accepted ${JSON.stringify(options)}`);
}

describe('parseOptions', () => {
  it('falls back to the defaults', () => {
    expect(parse({})).toEqual({
      sizeBytes: 10 * gib,
      fs: 'ext4',
      mkfsOptions: [],
      mountOptions: [],
      uid: 0,
      gid: 0,
      mode: 0o755,
      pool: 'default',
    });
  });

  it.each<[Record<string, string>, Partial<VolumeSpec>]>([
    [{ size: '1.5G' }, { sizeBytes: 1.5 * gib }],
    [{ size: '16777217' }, { sizeBytes: 16_777_216 + 4096 }],
    [{ size: '64T' }, { sizeBytes: 64 * 1024 * gib }],
    [
      { size: '300Mi', fs: 'xfs' },
      { sizeBytes: 300 * 1024 ** 2, fs: 'xfs' },
    ],
    [
      { uid: '999', gid: '4294967294' },
      { uid: 999, gid: 4_294_967_294 },
    ],
    [{ mode: '1777' }, { mode: 0o1777 }],
    [{ mode: '0o0700' }, { mode: 0o700 }],
    [{ pool: 'fast-ssd.1' }, { pool: 'fast-ssd.1' }],
    [
      { mkfs: '', mount: '' },
      { mkfsOptions: [], mountOptions: [] },
    ],
    [
      { mkfs: ' -m 0  -i16384 -O ^has_journal,metadata_csum -L data -T largefile' },
      {
        mkfsOptions: [
          '-m',
          '0',
          '-i',
          '16384',
          '-O',
          '^has_journal,metadata_csum',
          '-L',
          'data',
          '-T',
          'largefile',
        ],
      },
    ],
    [
      { fs: 'xfs', mkfs: '-m reflink=1,rmapbt=0 -i size=1024' },
      { mkfsOptions: ['-m', 'reflink=1,rmapbt=0', '-i', 'size=1024'] },
    ],
    [
      { fs: 'btrfs', mkfs: '-M --csum=xxhash -d dup' },
      { mkfsOptions: ['-M', '--csum', 'xxhash', '-d', 'dup'] },
    ],
    [
      { mount: 'noatime, commit=30,data=journal' },
      { mountOptions: ['noatime', 'commit=30', 'data=journal'] },
    ],
    [
      { fs: 'btrfs', mount: 'compress=zstd:3,discard=async' },
      { mountOptions: ['compress=zstd:3', 'discard=async'] },
    ],
    [{ fs: 'btrfs', mount: 'compress,discard' }, { mountOptions: ['compress', 'discard'] }],
  ])('reads %j', (options, expected) => {
    expect(parse(options)).toMatchObject(expected);
  });

  it.each<[Record<string, string>, ...string[]]>([
    [{ size: '0' }, 'option size: "0"', 'at least 16 MiB for ext4'],
    [{ size: '-1' }, 'option size: "-1"', 'powers of 1024'],
    [{ size: '10X' }, 'option size: "10X"', 'e.g. 10G'],
    [{ size: '' }, 'option size: ""'],
    [{ size: '9EiB' }, 'option size: "9EiB"', 'at most 64 TiB'],
    [{ size: '9'.repeat(400) }, 'option size:', 'at most 64 TiB'],
    [{ size: '70368744177665' }, 'option size:', 'at most 64 TiB'],
    [{ size: '20' }, 'did you mean 20G?'],
    [{ size: '299M', fs: 'xfs' }, 'at least 300 MiB for xfs'],
    [{ size: '127M', fs: 'btrfs' }, 'at least 128 MiB for btrfs'],
    [{ fs: 'zfs' }, 'option fs: "zfs"', 'ext4, xfs, btrfs'],
    [{ fs: 'EXT4' }, 'option fs:'],
    [{ uid: '-1' }, 'option uid: "-1"', '0 to 4294967294'],
    [{ uid: '4294967295' }, 'option uid:'],
    [{ gid: 'www-data' }, 'option gid: "www-data"'],
    [{ gid: '010' }, 'option gid:'],
    [{ mode: '755' }, 'option mode: "755"', 'four octal digits'],
    [{ mode: '511' }, 'option mode: "511"', 'in YAML'],
    [{ mode: '0888' }, 'option mode:'],
    [{ mode: '17777' }, 'option mode:'],
    [{ mode: 'rwx' }, 'option mode:'],
    [{ pool: '..' }, 'option pool: ".."'],
    [{ pool: 'a/b' }, 'option pool:'],
    [{ siez: '1G' }, 'no option "siez"', 'did you mean size?', 'allowed: size, fs, mkfs'],
    [{ fsType: 'xfs' }, 'did you mean fs?'],
    [{ replicas: '3' }, 'no option "replicas"', '-o help'],
    [{ __proto__x: '1' }, 'no option'],
  ])('refuses %j and says why', (options, ...parts) => {
    const message = refusal(options);
    for (const part of parts) expect(message).toContain(part);
  });

  it.each([
    ...[
      '-F',
      '-n',
      '-q',
      '-S',
      '-E offset=4096',
      '-E nodiscard',
      '-J device=/dev/sda',
      '-J size=4',
      '-U clear',
    ],
    ...[
      '/dev/sda',
      '-m 0 /dev/sda',
      '-m 0 10G',
      '-L /etc/passwd',
      '-L -F',
      '-L ../x',
      '-m',
      '-m 51',
      '-m -1',
    ],
    ...['-O journal_dev', '-O ^has_journal,journal_dev', '-O ^', '-O quota,quota', '-d /etc', '-m 0 -m 1'],
    ...[
      '-b 65536',
      '-T hurd',
      '-L "a b"',
      '-L $(reboot)',
      '-L a;reboot',
      '-I 128',
      '--',
      '-',
      '-mF',
      '-l x',
      '-c',
    ],
  ])('refuses the ext4 mkfs option %s', (mkfs) => {
    expect(refusal({ mkfs })).toMatch(/^option mkfs: .*allowed: /);
  });

  it.each([
    ...[
      '-f',
      '-N',
      '-l logdev=/dev/sda',
      '-d file=1,name=/x',
      '-r rtdev=/dev/sda',
      '-p /etc/passwd',
      '-c options=/x',
    ],
    ...[
      '-m uuid=x',
      '-m reflink',
      '-m reflink=2',
      '-m reflink=1,reflink=0',
      '-m ,',
      '-L thirteenchars',
      '-b size=64k',
    ],
  ])('refuses the xfs mkfs option %s', (mkfs) => {
    expect(refusal({ fs: 'xfs', mkfs })).toMatch(/^option mkfs: /);
  });

  it.each([
    '-f',
    '-r /etc',
    '--rootdir=/etc',
    '--rootdir /etc',
    '-b 1G',
    '-U x',
    '-Mx',
    '-d raid1',
    '-O raid56',
  ])('refuses the btrfs mkfs option %s', (mkfs) => {
    expect(refusal({ fs: 'btrfs', mkfs })).toMatch(/^option mkfs: /);
  });

  it.each([
    ...[
      'ro',
      'rw',
      'loop',
      'bind',
      'remount',
      'errors=panic',
      'journal_path=/dev/sda',
      'journal_dev=8',
      'sb=1',
    ],
    ...[
      'commit=0',
      'commit=901',
      'commit',
      'noatime=1',
      'noatime,',
      ',',
      ',noatime',
      'noatime,,nodev',
      'data=x',
    ],
    ...[
      'noatime,noatime',
      'data=ordered,data=journal',
      'NOATIME',
      'context="a,b"',
      'x-systemd.automount',
      'noatime nodev',
    ],
    ...['compress=zstd', 'nouuid'],
  ])('refuses the ext4 mount option %s', (mount) => {
    expect(refusal({ mount })).toMatch(/^option mount: .*allowed: /);
  });

  it.each(['device=/dev/sda', 'subvol=/x', 'degraded', 'rescue=all', 'compress=zstd:16', 'compress=gzip'])(
    'refuses the btrfs mount option %s',
    (mount) => {
      expect(refusal({ fs: 'btrfs', mount })).toMatch(/^option mount: /);
    },
  );

  it('suggests the mount option that was meant', () => {
    expect(refusal({ mount: 'noatme' })).toContain('did you mean noatime?');
  });

  it.each<[string, Record<string, string>]>([
    ['alone', { help: '' }],
    ['with any value', { help: 'me' }],
    ['beside wrong options', { help: '1', sise: 'x' }],
  ])('answers help %s with the table of options', (_, options) => {
    const message = refusal(options);
    for (const part of [
      'size',
      '10 GiB',
      'ext4',
      'noatime',
      '-m VALUE',
      '0755',
      'errors=continue|remount-ro',
    ]) {
      expect(message).toContain(part);
    }
  });

  it('either reads any strings or refuses them with an AppError', () => {
    const key = fc.constantFrom(
      'size',
      'fs',
      'mkfs',
      'mount',
      'uid',
      'gid',
      'mode',
      'pool',
      'x',
      '__proto__',
    );
    const value = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('xfs', 'btrfs', '1G', '0755', '5'));
    fc.assert(
      fc.property(fc.dictionary(key, value), (options) => {
        try {
          expect(parse(options).sizeBytes % 4096).toBe(0);
        } catch (reason) {
          expect(reason).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('lets no path, blank, comma or foreign flag through', () => {
    const word = fc.constantFrom(
      ...[
        '-m',
        '-L',
        '-O',
        '-i',
        '-b',
        '-M',
        '-n',
        '-d',
        '-F',
        '-f',
        '-E',
        '-J',
        '--csum',
        '/dev/sda',
        '0',
        '1',
        '4096',
      ],
      ...[
        'a',
        'dup',
        'size=512',
        'reflink=1',
        '^has_journal',
        'offset=0',
        '=',
        '^',
        'noatime',
        'commit=5',
        'discard',
      ],
    );
    const joined = fc
      .array(fc.tuple(word, fc.constantFrom(' ', ',', '=', '')))
      .map((parts) => parts.flat().join(''));
    let accepted = 0;
    fc.assert(
      fc.property(fc.constantFrom(...fileSystems), joined, fc.boolean(), (fs, text, mkfs) => {
        let spec: VolumeSpec;
        try {
          spec = parse(mkfs ? { fs, mkfs: text } : { fs, mount: text });
        } catch (reason) {
          expect(reason).toBeInstanceOf(AppError);
          return;
        }
        accepted += 1;
        for (const item of spec.mountOptions) expect(item).toMatch(/^[a-z0-9_-]+(=[a-z0-9:-]+)?$/);
        for (const token of spec.mkfsOptions) {
          expect(token).toMatch(/^(-[miINLTOnsbMd]|--csum|[A-Za-z0-9^][A-Za-z0-9_.^,=-]*)$/);
        }
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(30);
  });
});

describe('describeDifference', () => {
  it('is nothing for what was read twice from the same options', () => {
    const options = { size: '20G', fs: 'xfs', mkfs: '-L a', mount: 'noatime' };
    expect(describeDifference(parse(options), parse(options))).toBeUndefined();
    expect(sameSpec(parse({ size: '1G' }), parse({ size: '1024M' }))).toBe(true);
  });

  it.each<[Record<string, string>, string]>([
    [{ size: '20G' }, 'size is 10 GiB (10737418240 bytes), asked for 20 GiB (21474836480 bytes)'],
    [{ fs: 'xfs' }, 'fs is ext4, asked for xfs'],
    [{ mkfs: '-m 0' }, 'mkfs is "", asked for "-m 0"'],
    [{ mount: 'noatime' }, 'mount is "", asked for "noatime"'],
    [{ uid: '1' }, 'uid is 0, asked for 1'],
    [{ gid: '1' }, 'gid is 0, asked for 1'],
    [{ mode: '0700' }, 'mode is 0755, asked for 0700'],
    [{ pool: 'fast' }, 'pool is default, asked for fast'],
  ])('names what %j changes', (options, expected) => {
    expect(describeDifference(parse({}), parse(options))).toBe(expected);
    expect(sameSpec(parse({}), parse(options))).toBe(false);
  });
});
