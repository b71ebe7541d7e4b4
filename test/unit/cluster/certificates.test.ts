import { X509Certificate, createPrivateKey } from 'node:crypto';
import { chmod, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureCertificates } from '../../../src/cluster/certificates.js';

const day = 24 * 60 * 60 * 1000;

describe('ensureCertificates', () => {
  let directory: string;
  beforeEach(async () => {
    directory = join(await mkdtemp(join(tmpdir(), 'openebs-certificates-')), 'certificates');
  });
  afterEach(() => rm(join(directory, '..'), { recursive: true, force: true }));

  const contents = async () => {
    const names = (await readdir(directory)).sort();
    return Promise.all(names.map(async (name) => [name, await readFile(join(directory, name), 'utf8')]));
  };

  it('makes an authority and a server, a peer and a client certificate signed by it', async () => {
    const made = await ensureCertificates(directory, { addresses: ['10.1.2.3', 'fd00::1', 'host1.example'] });
    const ca = new X509Certificate(made.ca);
    expect(ca.ca).toBe(true);
    for (const { certificate, key } of [made.server, made.peer, made.client]) {
      const leaf = new X509Certificate(certificate);
      expect(leaf.ca).toBe(false);
      expect(leaf.checkIssued(ca)).toBe(true);
      expect(leaf.verify(ca.publicKey)).toBe(true);
      expect(leaf.checkPrivateKey(createPrivateKey(key))).toBe(true);
      expect(createPrivateKey(key).asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    }
    for (const { certificate } of [made.server, made.peer]) {
      const leaf = new X509Certificate(certificate);
      for (const ip of ['127.0.0.1', '::1', '10.1.2.3', 'fd00::1']) expect(leaf.checkIP(ip)).toBe(ip);
      for (const host of ['localhost', 'host1.example']) expect(leaf.checkHost(host)).toBe(host);
      expect(leaf.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    }
    expect(new X509Certificate(made.client.certificate).keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(made.renewed).toEqual(['server', 'peer', 'client']);
    expect(await readFile(made.server.keyPath)).toEqual(made.server.key);
  });

  it('keeps files to their owner and leaves no temporary ones', async () => {
    await ensureCertificates(directory, { addresses: [] });
    await chmod(directory, 0o755);
    await ensureCertificates(directory, { addresses: [] });
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    const names = await readdir(directory);
    expect(names.sort()).toEqual(
      [
        'ca.crt',
        'ca.key',
        'client.crt',
        'client.key',
        'peer.crt',
        'peer.key',
        'server.crt',
        'server.key',
      ].sort(),
    );
    for (const name of names) expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
  });

  it('changes nothing when all is there and good', async () => {
    await ensureCertificates(directory, { addresses: ['10.1.2.3'] });
    const before = await contents();
    const again = await ensureCertificates(directory, { addresses: ['10.1.2.3'] });
    expect(await contents()).toEqual(before);
    expect(again.renewed).toEqual([]);
  });

  it('renews when less than a third of a life is left, over the same key and authority', async () => {
    const first = await ensureCertificates(directory, { addresses: [] });
    const later = (days: number) => ({ addresses: [], now: new Date(Date.now() + days * day) });
    expect((await ensureCertificates(directory, later(365))).renewed).toEqual([]);
    const renewed = await ensureCertificates(directory, later(8 * 365));
    expect(renewed.renewed).toEqual(['server', 'peer', 'client']);
    expect(renewed.ca).toEqual(first.ca);
    expect(renewed.client.key).toEqual(first.client.key);
    const life = (pem: Buffer) => Date.parse(new X509Certificate(pem).validTo);
    expect(life(renewed.client.certificate)).toBeGreaterThan(life(first.client.certificate));
  });

  it('makes a new server certificate for a new address, and keeps one that covers more', async () => {
    const first = await ensureCertificates(directory, { addresses: ['10.1.2.3'] });
    const grown = await ensureCertificates(directory, { addresses: ['10.1.2.3', '10.1.2.4'] });
    expect(grown.renewed).toEqual(['server', 'peer']);
    expect(grown.client).toEqual(first.client);
    expect((await ensureCertificates(directory, { addresses: ['10.1.2.4'] })).renewed).toEqual([]);
  });

  it.each(['server.crt', 'server.key'])(
    'makes the server certificate anew when %s is cut or gone',
    async (name) => {
      await ensureCertificates(directory, { addresses: [] });
      await truncate(join(directory, name), 40);
      expect((await ensureCertificates(directory, { addresses: [] })).renewed).toEqual(['server']);
      await rm(join(directory, name));
      const made = await ensureCertificates(directory, { addresses: [] });
      expect(made.renewed).toEqual(['server']);
      expect(
        new X509Certificate(made.server.certificate).checkPrivateKey(createPrivateKey(made.server.key)),
      ).toBe(true);
    },
  );

  it('replaces a certificate that another authority signed', async () => {
    const other = await ensureCertificates(`${directory}-other`, { addresses: [] });
    await ensureCertificates(directory, { addresses: [] });
    await writeFile(join(directory, 'peer.crt'), other.peer.certificate);
    await writeFile(join(directory, 'peer.key'), other.peer.key);
    expect((await ensureCertificates(directory, { addresses: [] })).renewed).toEqual(['peer']);
  });

  it.each(['ca.crt', 'ca.key'])(
    'refuses to go on with a damaged or missing %s, and says how to',
    async (name) => {
      await ensureCertificates(directory, { addresses: [] });
      const before = await contents();
      const whole = await readFile(join(directory, name));
      await writeFile(join(directory, name), whole.subarray(0, 60));
      await expect(ensureCertificates(directory, { addresses: [] })).rejects.toMatchObject({
        code: 'internal',
      });
      await expect(ensureCertificates(directory, { addresses: [] })).rejects.toThrow(
        new RegExp(`in ${directory} .* ${name} is damaged.*Restore`),
      );
      await rm(join(directory, name));
      await expect(ensureCertificates(directory, { addresses: [] })).rejects.toThrow(`${name} is missing`);
      await writeFile(join(directory, name), whole);
      await ensureCertificates(directory, { addresses: [] });
      expect(await contents()).toEqual(before);
    },
  );

  it('refuses an authority whose key is another one', async () => {
    await ensureCertificates(directory, { addresses: [] });
    await ensureCertificates(`${directory}-other`, { addresses: [] });
    await writeFile(join(directory, 'ca.key'), await readFile(join(`${directory}-other`, 'ca.key')));
    await expect(ensureCertificates(directory, { addresses: [] })).rejects.toThrow('do not belong together');
  });

  it('says when the authority has expired', async () => {
    await ensureCertificates(directory, { addresses: [] });
    const now = new Date(Date.now() + 21 * 365 * day);
    await expect(ensureCertificates(directory, { addresses: [], now })).rejects.toThrow('ca.crt has expired');
  });

  it('completes what a crash left half done', async () => {
    await ensureCertificates(directory, { addresses: [] });
    for (const name of [
      'ca.crt',
      'server.crt',
      'server.key',
      'peer.crt',
      'peer.key',
      'client.crt',
      'client.key',
    ]) {
      await rm(join(directory, name));
    }
    const made = await ensureCertificates(directory, { addresses: [] });
    expect(
      new X509Certificate(made.ca).checkPrivateKey(
        createPrivateKey(await readFile(join(directory, 'ca.key'))),
      ),
    ).toBe(true);
  });

  it('names the directory that cannot be written', async () => {
    await writeFile(join(directory, '..', 'file'), '');
    const below = join(directory, '..', 'file', 'certificates');
    const failure = ensureCertificates(below, { addresses: [] });
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failure).rejects.toThrow(below);
  });
});
