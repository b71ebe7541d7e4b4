import { AppError } from '../errors.js';
import { nearest } from '../lib/nearest.js';
import { quote } from '../lib/quote.js';
import type { FileSystem } from '../state/records.js';
import { matching, oneOf, wholeNumber, type ValueRule } from './value-rule.js';

/**
 * The `mount` option, an allow-list like mkfs-options.ts. Left out on purpose: whatever names a device or a path
 * (journal_path, logdev, device, subvol), skips recovery or checks (norecovery, nouuid, degraded, rescue), stops
 * the host (errors=panic), or undoes how the driver mounts: `ro` would keep it from making the volume's root, and
 * Docker has `-v NAME:/path:ro` for a container that must not write.
 */
type Rules = ReadonlyMap<string, readonly (ValueRule | null)[]>;

/** A name alone (null), with a value, or either. */
function rules(plain: readonly string[], valued: Readonly<Record<string, ValueRule>>): Rules {
  const map = new Map<string, readonly (ValueRule | null)[]>(plain.map((name) => [name, [null]]));
  for (const [name, rule] of Object.entries(valued)) map.set(name, [...(map.get(name) ?? []), rule]);
  return map;
}

const common = [
  ...['noatime', 'relatime', 'strictatime', 'nodiratime', 'lazytime', 'nolazytime'],
  ...['nosuid', 'nodev', 'noexec', 'sync', 'dirsync', 'discard', 'nodiscard'],
];
const commitSeconds = wholeNumber(1, 900);
const compression = matching(
  /^(no|lzo|zlib(:[1-9])?|zstd(:([1-9]|1[0-5]))?)$/,
  'no|lzo|zlib[:1-9]|zstd[:1-15]',
);

const rulesOf: Readonly<Record<FileSystem, Rules>> = {
  ext4: rules(
    [
      ...common,
      ...['barrier', 'nobarrier', 'delalloc', 'nodelalloc', 'auto_da_alloc', 'noauto_da_alloc'],
      ...['journal_checksum', 'nojournal_checksum', 'acl', 'noacl', 'user_xattr', 'noinit_itable'],
      ...['usrquota', 'grpquota', 'prjquota', 'noquota'],
    ],
    {
      barrier: oneOf('0', '1'),
      commit: commitSeconds,
      data: oneOf('ordered', 'journal', 'writeback'),
      errors: oneOf('continue', 'remount-ro'),
      init_itable: wholeNumber(1, 1000),
    },
  ),
  xfs: rules(
    [
      ...common,
      ...['inode32', 'inode64', 'largeio', 'nolargeio', 'filestreams', 'swalloc', 'noalign', 'wsync'],
      ...['usrquota', 'grpquota', 'prjquota', 'uquota', 'gquota', 'pquota', 'noquota'],
    ],
    {
      allocsize: matching(/^(4|8|16|32|64|128|256|512)k$|^(1|2|4|8|16|32|64|128|256|512)m$|^1g$/, '4k to 1g'),
      logbsize: oneOf('32k', '64k', '128k', '256k'),
      logbufs: wholeNumber(2, 8),
    },
  ),
  btrfs: rules(
    [
      ...common,
      ...['compress', 'compress-force', 'autodefrag', 'noautodefrag', 'ssd', 'nossd', 'acl', 'noacl'],
      ...['datacow', 'nodatacow', 'datasum', 'nodatasum', 'barrier', 'nobarrier'],
      ...['flushoncommit', 'noflushoncommit', 'space_cache'],
    ],
    {
      commit: commitSeconds,
      compress: compression,
      'compress-force': compression,
      discard: oneOf('sync', 'async'),
      max_inline: wholeNumber(0, 4096),
      space_cache: oneOf('v1', 'v2'),
    },
  ),
};

/** For the table of options and for errors. */
export function describeMountOptions(fs: FileSystem): string {
  return Array.from(rulesOf[fs], ([name, forms]) => {
    const rule = forms.find((form) => form !== null);
    if (!rule) return name;
    return forms.includes(null) ? `${name}[=${rule.allowed}]` : `${name}=${rule.allowed}`;
  }).join(', ');
}

function parseOne(fs: FileSystem, item: string): string {
  const equals = item.indexOf('=');
  const name = equals < 0 ? item : item.slice(0, equals);
  const forms = rulesOf[fs].get(name);
  if (forms === undefined) {
    const near = nearest(name, [...rulesOf[fs].keys()]);
    const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
    throw refuse(`${quote(item)} is not allowed for ${fs}${hint}`, describeMountOptions(fs));
  }
  const accepted = forms.some((form) =>
    form === null ? equals < 0 : equals >= 0 && form.accepts(item.slice(equals + 1)),
  );
  if (accepted) return name;
  const allowed = forms.map((form) => (form === null ? name : `${name}=${form.allowed}`)).join(' or ');
  throw refuse(`${quote(item)} is not allowed for ${fs}`, allowed);
}

function refuse(problem: string, allowed: string): AppError {
  return new AppError('invalid_argument', `option mount: ${problem}; allowed: ${allowed}`);
}

/** The mount options, one item each, to be joined with commas. @throws AppError `invalid_argument`. */
export function parseMountOptions(fs: FileSystem, text: string): string[] {
  if (text.trim() === '') return [];
  const items = text.split(',').map((item) => item.trim());
  const names = items.map((item) => parseOne(fs, item));
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw refuse(`${twice} is given twice`, 'each option once');
  return items;
}
