/** One line of /proc/self/mountinfo (proc(5)). */
export interface MountEntry {
  readonly id: string;
  readonly parent: string;
  /** The directory of its file system that it shows. */
  readonly root: string;
  readonly mountpoint: string;
  /** Optional fields: `shared:N`, `master:N`. */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

export function parseMountInfo(text: string): MountEntry[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseLine);
}

function parseLine(line: string): MountEntry {
  const fields = line.split(' ');
  const separator = fields.indexOf('-', 6);
  return {
    id: fields[0] ?? '',
    parent: fields[1] ?? '',
    root: unescape(fields[3] ?? ''),
    mountpoint: unescape(fields[4] ?? ''),
    propagation: fields.slice(6, separator),
    type: fields[separator + 1] ?? '',
    source: unescape(fields[separator + 2] ?? ''),
    superOptions: (fields[separator + 3] ?? '').split(','),
  };
}

/** The kernel writes space, tab, newline and backslash as octal. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}
