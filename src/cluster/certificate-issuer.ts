// The X.509 library finds its parts by reflection and refuses to load without this.
import 'reflect-metadata';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  webcrypto,
  type KeyObject,
} from 'node:crypto';
import { isIP } from 'node:net';

export type Usage = 'server' | 'client';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMs = 24 * 60 * 60 * 1000;
/**
 * Clocks of a cluster differ, and one that was wrong is set right: a certificate made by the one ahead must not be
 * refused afterwards, nor by the others. So all are good from a day that no clock that works shows any more.
 */
const validFrom = Date.UTC(2016, 8, 1);
const authorityLifeMs = 20 * 365 * dayMs;
/** Long, because a clock that jumps ahead must not end them while all that hold them run. */
const leafLifeMs = 10 * 365 * dayMs;

export function newKeyPem(): string {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString();
}

/** A self-signed certificate over the key, good for signing others. */
export async function issueAuthority(keyPem: string, now: Date): Promise<string> {
  const publicKey = await importPublic(keyPem);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: [{ CN: ['openebs certificate authority'] }],
      keys: { publicKey, privateKey: await importSigning(createPrivateKey(keyPem)) },
      signingAlgorithm: algorithm,
      notBefore: new Date(Math.min(now.getTime(), validFrom)),
      notAfter: new Date(now.getTime() + authorityLifeMs),
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

export interface LeafRequest {
  readonly commonName: string;
  readonly keyPem: string;
  readonly authority: { readonly certificatePem: string; readonly key: KeyObject };
  readonly usages: readonly Usage[];
  readonly addresses: readonly string[];
  readonly now: Date;
}

/** A certificate that does not outlive its authority. */
export async function issueLeaf(request: LeafRequest): Promise<string> {
  const authority = new X509Certificate(request.authority.certificatePem);
  const publicKey = await importPublic(request.keyPem);
  const endMs = Math.min(request.now.getTime() + leafLifeMs, authority.notAfter.getTime());
  const certificate = await X509CertificateGenerator.create(
    {
      subject: [{ CN: [request.commonName] }],
      issuer: authority.subject,
      publicKey,
      signingKey: await importSigning(request.authority.key),
      signingAlgorithm: algorithm,
      notBefore: new Date(Math.min(request.now.getTime(), validFrom)),
      notAfter: new Date(endMs),
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(request.usages.map((usage) => oids[usage])),
        await SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
        await AuthorityKeyIdentifierExtension.create(authority, false, webcrypto),
        ...(request.addresses.length === 0 ? [] : [alternativeNames(request.addresses)]),
      ],
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

const oids = { server: ExtendedKeyUsage.serverAuth, client: ExtendedKeyUsage.clientAuth };

function alternativeNames(addresses: readonly string[]): SubjectAlternativeNameExtension {
  return new SubjectAlternativeNameExtension(
    addresses.map((value) => ({ type: isIP(value) ? 'ip' : 'dns', value })),
  );
}

function importPublic(keyPem: string): Promise<webcrypto.CryptoKey> {
  const der = createPublicKey(keyPem).export({ type: 'spki', format: 'der' });
  return webcrypto.subtle.importKey('spki', der, algorithm, true, ['verify']);
}

function importSigning(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const der = key.export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, algorithm, true, ['sign']);
}
