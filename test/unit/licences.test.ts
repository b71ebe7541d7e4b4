import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

interface Locked {
  readonly version?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly license?: string;
  readonly optional?: boolean;
}

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  packages: Record<string, Locked>;
};
/** What the plugin carries: all that is not for development alone. */
const production = Object.entries(packages).filter(
  ([name, entry]) => name !== '' && entry.dev !== true && entry.devOptional !== true,
);

/** They ask for no more than that their text comes along. */
const allowed = new Set([
  ...['MIT', 'ISC', '0BSD', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', 'Unlicense', 'BlueOak-1.0.0'],
  ...['(MIT OR CC0-1.0)', '(Unlicense OR Apache-2.0)', 'Python-2.0', 'CC0-1.0'],
]);

interface Manifest {
  readonly license?: string;
  /** How packages of old say it. */
  readonly licenses?: readonly { readonly type: string }[];
}

function licenceOf(name: string, { license }: Locked): string {
  if (license !== undefined) return license;
  const file = join(name, 'package.json');
  const manifest = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Manifest) : {};
  return manifest.license ?? manifest.licenses?.map(({ type }) => type).join(' and ') ?? 'not told';
}

describe('the packages that the plugin runs on', () => {
  it('have licences that let anybody pass them on', () => {
    const wrong = production
      .map(([name, entry]) => `${name}: ${licenceOf(name, entry)}`)
      .filter((line) => !allowed.has(line.slice(line.indexOf(': ') + 2)));
    expect(wrong).toEqual([]);
  });

  it('come from the registry, each with a checksum', () => {
    for (const [name, entry] of production) {
      expect([name, (entry as { integrity?: string }).integrity]).toEqual([
        name,
        expect.stringMatching(/^sha512-/),
      ]);
    }
  });

  it('are few', () => {
    console.log(`${String(production.length)} packages for production`);
    expect(production.length).toBeLessThan(250);
  });
});
