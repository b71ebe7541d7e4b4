/**
 * The certificates of a cluster: one authority, and below it one certificate each for the etcd server, for etcd
 * among its members, and for us as etcd's client. All ECDSA P-256.
 *
 * The authority is made once: whoever holds a certificate of it is trusted, so a second one made by mistake would
 * lock the members out. A damaged or half-missing authority is therefore refused, with what to do. The other
 * certificates follow from it and hold nothing that could be lost: what is missing, damaged, of another authority,
 * without a needed address or past two thirds of its life is made anew, over the same key where there is one, so
 * that a crash cannot leave a certificate beside the key of another.
 *
 * An order of writing (key, then certificate; authority before all) makes each state a crash can leave behind one
 * that the next run completes.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { chmod, mkdir, readFile, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import { issueAuthority, issueLeaf, newKeyPem, type Usage } from './certificate-issuer.js';

export interface CertificateFiles {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly certificate: Buffer;
  readonly key: Buffer;
}

export interface Certificates {
  readonly caPath: string;
  readonly ca: Buffer;
  /** Of the authority: who joins gets it too, so that each host can renew what it has. */
  readonly caKey: Buffer;
  /** For etcd towards clients; good for all addresses. */
  readonly server: CertificateFiles;
  /** For etcd towards other members. */
  readonly peer: CertificateFiles;
  /** For us towards etcd. */
  readonly client: CertificateFiles;
  /** Names of those made or renewed by this call. */
  readonly renewed: readonly string[];
}

const leafNames = ['server', 'peer', 'client'] as const;
type LeafName = (typeof leafNames)[number];

/** etcd's HTTP gateway calls its own gRPC port with the server's certificate, so that is a client's too. */
const usages: Record<LeafName, readonly Usage[]> = {
  server: ['server', 'client'],
  peer: ['server', 'client'],
  client: ['client'],
};
const alwaysReachableAt = ['localhost', '127.0.0.1', '::1'];

interface Authority {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
  readonly pem: Buffer;
  readonly keyPem: Buffer;
}

/**
 * Brings the directory (0700, its files 0600) to the state in which all certificates are there and good; does
 * nothing if they are. Addresses are IP addresses or host names.
 * @throws AppError `internal` for an authority that is damaged or has expired, `no_space`, `unavailable`.
 */
export async function ensureCertificates(
  directory: string,
  options: { addresses: readonly string[]; now?: Date },
): Promise<Certificates> {
  const now = options.now ?? new Date();
  const addresses = [...new Set([...alwaysReachableAt, ...options.addresses])];
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await chmod(directory, 0o700);
    const authority = await ensureAuthority(directory, now);
    const renewed: string[] = [];
    const ensure = (name: LeafName) => ensureLeaf(directory, name, { authority, addresses, now, renewed });
    return {
      caPath: join(directory, 'ca.crt'),
      ca: authority.pem,
      caKey: authority.keyPem,
      server: await ensure('server'),
      peer: await ensure('peer'),
      client: await ensure('client'),
      renewed,
    };
  } catch (reason) {
    if (reason instanceof AppError) throw reason;
    const full = isCode(reason, 'ENOSPC') || isCode(reason, 'EDQUOT');
    throw AppError.from(
      reason,
      full ? 'no_space' : 'unavailable',
      `the certificates in ${directory} cannot be read or written`,
    );
  }
}

/** Replaces all certificates by those that the next call of ensureCertificates makes below this authority. */
export async function takeAuthority(
  directory: string,
  { authority, authorityKey }: { readonly authority: string; readonly authorityKey: string },
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of leafNames) {
    await rm(join(directory, `${name}.crt`), { force: true });
    await rm(join(directory, `${name}.key`), { force: true });
  }
  await rm(join(directory, 'ca.crt'), { force: true });
  await writeFileAtomic(join(directory, 'ca.key'), authorityKey);
  await writeFileAtomic(join(directory, 'ca.crt'), authority);
}

async function ensureAuthority(directory: string, now: Date): Promise<Authority> {
  const [pem, keyPem] = await Promise.all([
    readIfThere(join(directory, 'ca.crt')),
    readIfThere(join(directory, 'ca.key')),
  ]);
  if (pem && keyPem) return checkAuthority(directory, { pem, keyPem, now });
  const issued = await Promise.all(leafNames.map((name) => readIfThere(join(directory, `${name}.crt`))));
  if (pem || issued.some((leaf) => leaf !== undefined)) {
    const missing = pem ? 'ca.key' : keyPem ? 'ca.crt' : 'ca.crt and ca.key';
    throw damaged(directory, `${missing} is missing while certificates of it are there`);
  }
  const newKey = newKeyPem();
  const newPem = await issueAuthority(newKey, now);
  await writeFileAtomic(join(directory, 'ca.key'), newKey);
  await writeFileAtomic(join(directory, 'ca.crt'), newPem);
  return checkAuthority(directory, { pem: Buffer.from(newPem), keyPem: Buffer.from(newKey), now });
}

function checkAuthority(
  directory: string,
  { pem, keyPem, now }: { pem: Buffer; keyPem: Buffer; now: Date },
): Authority {
  const certificate = parseOr(
    () => new X509Certificate(pem),
    () => damaged(directory, 'ca.crt is damaged'),
  );
  const key = parseOr(
    () => createPrivateKey(keyPem),
    () => damaged(directory, 'ca.key is damaged'),
  );
  if (!certificate.ca || !certificate.checkPrivateKey(key)) {
    throw damaged(directory, 'ca.crt and ca.key do not belong together');
  }
  if (Date.parse(certificate.validTo) <= now.getTime()) {
    throw damaged(directory, `ca.crt has expired (${certificate.validTo})`);
  }
  return { certificate, key, pem, keyPem };
}

interface LeafOptions {
  readonly authority: Authority;
  readonly addresses: readonly string[];
  readonly now: Date;
  readonly renewed: string[];
}

async function ensureLeaf(
  directory: string,
  name: LeafName,
  options: LeafOptions,
): Promise<CertificateFiles> {
  const certificatePath = join(directory, `${name}.crt`);
  const keyPath = join(directory, `${name}.key`);
  const [oldPem, oldKey] = await Promise.all([readIfThere(certificatePath), readIfThere(keyPath)]);
  const files = { certificatePath, keyPath };
  const names = name === 'client' ? [] : options.addresses;
  if (oldPem && oldKey && isGood(oldPem, oldKey, { ...options, addresses: names })) {
    return { ...files, certificate: oldPem, key: oldKey };
  }
  const key = oldKey && isUsableKey(oldKey) ? oldKey : Buffer.from(newKeyPem());
  const certificate = await issueLeaf({
    commonName: `openebs ${name}`,
    keyPem: key.toString(),
    authority: { certificatePem: options.authority.pem.toString(), key: options.authority.key },
    usages: usages[name],
    addresses: names,
    now: options.now,
  });
  if (key !== oldKey) await writeFileAtomic(keyPath, key);
  await writeFileAtomic(certificatePath, certificate);
  options.renewed.push(name);
  return { ...files, certificate: Buffer.from(certificate), key };
}

/** Whole, of our authority, over this key, good for all addresses, and with a third of its life left. */
function isGood(pem: Buffer, keyPem: Buffer, { authority, addresses, now }: LeafOptions): boolean {
  try {
    const certificate = new X509Certificate(pem);
    const from = Date.parse(certificate.validFrom);
    const to = Date.parse(certificate.validTo);
    return (
      certificate.checkPrivateKey(createPrivateKey(keyPem)) &&
      certificate.verify(authority.certificate.publicKey) &&
      from <= now.getTime() &&
      to - now.getTime() >= (to - from) / 3 &&
      addresses.every((address) => covers(certificate, address))
    );
  } catch {
    return false;
  }
}

function covers(certificate: X509Certificate, address: string): boolean {
  const found = isIP(address) ? certificate.checkIP(address) : certificate.checkHost(address);
  return found !== undefined;
}

function isUsableKey(pem: Buffer): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyDetails?.namedCurve === 'prime256v1';
  } catch {
    return false;
  }
}

function damaged(directory: string, what: string): AppError {
  return new AppError(
    'internal',
    `the certificate authority in ${directory} cannot be used: ${what}. Restore the file from a backup; or, with ` +
      'etcd stopped on all hosts of the cluster, remove the directory everywhere and let a new one be made',
  );
}

function parseOr<T>(parse: () => T, fail: () => AppError): T {
  try {
    return parse();
  } catch {
    throw fail();
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (reason) {
    if (isCode(reason, 'ENOENT')) return undefined;
    throw reason;
  }
}

function isCode(reason: unknown, code: string): boolean {
  return reason instanceof Error && 'code' in reason && reason.code === code;
}
