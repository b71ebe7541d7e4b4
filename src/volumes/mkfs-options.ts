/**
 * The `mkfs` option: what a user may hand to mkfs.ext4, mkfs.xfs and mkfs.btrfs.
 *
 * The string comes from whoever may create a volume and ends in the arguments of a root process, so it is an
 * allow-list: flag by flag, value by value. INVARIANTS: no shell ever sees it (it is split at blanks and there is
 * no quoting); what is accepted holds no path, no device, no size or offset of the file system, and nothing that
 * forces, dry-runs or talks to another device (-F -f -n -r -J device= -l logdev= -E offset= -U ...); each flag
 * stands at most once. Flags the driver itself sets (ext4 -E and -q, xfs and btrfs -K) are refused, because the
 * last one would win: discarding at mkfs time alone makes a large volume late for Docker's timeout.
 * Combinations that a tool refuses (btrfs -M with unequal -m and -d) are left to the tool, whose message then is
 * the error of the first mount.
 */
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import type { FileSystem } from '../state/records.js';
import { assignments, features, label, matching, oneOf, wholeNumber, type ValueRule } from './value-rule.js';

/** null: a flag without a value. */
type Flags = ReadonlyMap<string, ValueRule | null>;

const bit = oneOf('0', '1');

const ext4: Flags = new Map<string, ValueRule | null>([
  ['-m', matching(/^([0-4]?\d(\.\d{1,2})?|50)$/, 'a percentage from 0 to 50')],
  ['-i', wholeNumber(1024, 67_108_864)],
  ['-I', oneOf('256', '512', '1024')],
  ['-b', oneOf('1024', '2048', '4096')],
  ['-N', wholeNumber(16, 4_294_967_295)],
  ['-L', label(16)],
  ['-T', oneOf('default', 'small', 'big', 'huge', 'news', 'largefile', 'largefile4')],
  [
    '-O',
    features(
      ...['64bit', 'dir_index', 'dir_nlink', 'ea_inode', 'extent', 'extra_isize', 'fast_commit', 'flex_bg'],
      ...['has_journal', 'huge_file', 'inline_data', 'large_dir', 'large_file', 'metadata_csum'],
      ...['metadata_csum_seed', 'orphan_file', 'project', 'quota', 'resize_inode', 'sparse_super'],
      ...['uninit_bg', 'verity'],
    ),
  ],
]);

const xfs: Flags = new Map<string, ValueRule | null>([
  ['-m', assignments({ reflink: bit, finobt: bit, rmapbt: bit, bigtime: bit, inobtcount: bit })],
  [
    '-i',
    assignments({
      size: oneOf('512', '1024', '2048'),
      maxpct: wholeNumber(0, 100),
      sparse: bit,
      nrext64: bit,
    }),
  ],
  ['-n', assignments({ size: oneOf('4096', '8192', '16384', '32768', '65536') })],
  ['-s', assignments({ size: oneOf('512', '4096') })],
  ['-b', assignments({ size: oneOf('1024', '2048', '4096') })],
  ['-L', label(12)],
]);

const profile = oneOf('single', 'dup');

const btrfs: Flags = new Map<string, ValueRule | null>([
  ['-L', label(64)],
  ['-M', null],
  ['-n', oneOf('4096', '8192', '16384', '32768', '65536', '4k', '8k', '16k', '32k', '64k')],
  ['-m', profile],
  ['-d', profile],
  ['-O', features('extref', 'skinny-metadata', 'no-holes', 'free-space-tree', 'quota', 'block-group-tree')],
  ['--csum', oneOf('crc32c', 'xxhash', 'sha256', 'blake2')],
]);

const flagsOf: Readonly<Record<FileSystem, Flags>> = { ext4, xfs, btrfs };

/** For the table of options. */
export function describeMkfsOptions(fs: FileSystem): string {
  return Array.from(flagsOf[fs], ([flag, rule]) => (rule === null ? flag : `${flag} VALUE`)).join(', ');
}

/** Splits `-m0` and `--csum=xxhash` into flag and value; leaves anything else as it is. */
function separate(flags: Flags, token: string): readonly [flag: string, attached: string | undefined] {
  const equals = token.indexOf('=');
  if (token.startsWith('--') && equals > 0) return [token.slice(0, equals), token.slice(equals + 1)];
  const short = token.slice(0, 2);
  if (token.length > 2 && flags.get(short)) return [short, token.slice(2)];
  return [token, undefined];
}

function refuse(fs: FileSystem, problem: string, allowed: string): AppError {
  return new AppError('invalid_argument', `option mkfs: ${problem} for ${fs}; allowed: ${allowed}`);
}

/** One flag with its value at the head of the tokens; answers how many of them it took. */
function parseFlag(fs: FileSystem, tokens: readonly string[]): readonly [parsed: string[], taken: number] {
  const flags = flagsOf[fs];
  const [flag, attached] = separate(flags, tokens[0] ?? '');
  const rule = flags.get(flag);
  if (rule === undefined) throw refuse(fs, `${quote(flag)} is not allowed`, describeMkfsOptions(fs));
  if (rule === null && attached !== undefined) throw refuse(fs, `${flag} takes no value`, flag);
  if (rule === null) return [[flag], 1];
  const value = attached ?? tokens[1] ?? '';
  if (!rule.accepts(value)) throw refuse(fs, `${flag} ${quote(value)} is not allowed`, rule.allowed);
  return [[flag, value], attached === undefined ? 2 : 1];
}

/** The arguments for mkfs of this file system, one token each. @throws AppError `invalid_argument`. */
export function parseMkfsOptions(fs: FileSystem, text: string): string[] {
  const tokens = text.split(/[ \t]+/).filter((token) => token !== '');
  const seen = new Set<string>();
  const all: string[] = [];
  for (let index = 0; index < tokens.length;) {
    const [parsed, taken] = parseFlag(fs, tokens.slice(index));
    const flag = parsed[0] ?? '';
    if (seen.has(flag)) throw refuse(fs, `${flag} is given twice`, 'each flag once');
    seen.add(flag);
    all.push(...parsed);
    index += taken;
  }
  return all;
}
