import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'qemu-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Runs the initiator's own check against a qemu-storage-daemon that says this version. */
function check(version: string) {
  const fake = join(directory, 'qemu-storage-daemon');
  writeFileSync(fake, `#!/bin/sh\necho 'qemu-storage-daemon version ${version}'\n`);
  chmodSync(fake, 0o755);
  const env = { ...process.env, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
  return spawnSync('perl', ['-Iplugin/image', '-MInitiator', '-e', 'Initiator::check_qemu()'], {
    env,
    encoding: 'utf8',
  });
}

describe('the initiator', () => {
  it.each(['10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)', '10.0.14', '10.1.0', '11.0.0'])(
    'accepts QEMU %s',
    (version) => {
      expect(check(version)).toMatchObject({ status: 0, stderr: '' });
    },
  );

  it.each(['7.2.18 (Debian 1:7.2+dfsg-7+deb12u18)', '9.2.4', '10.0.2', '10.0'])(
    'refuses QEMU %s, whose export corrupts data',
    (version) => {
      const { status, stderr } = check(version);
      expect(status).not.toBe(0);
      expect(stderr).toContain('10.0.13 or newer is needed');
    },
  );
});
