/** The parts of a registrator that runs alone, made from its settings. */
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import { createConsulBackend } from '../registrator/backends/consul/consul-backend.js';
import type { RegistryBackend } from '../registrator/backends/backend.js';
import { createEtcdState } from '../state/etcd-state.js';
import type { State } from '../state/state.js';
import type { StandaloneSettings } from './settings.js';

/** @throws AppError `invalid_argument` for a file that cannot be read. */
export async function connectEtcd(settings: StandaloneSettings, log: Log): Promise<State | null> {
  if (settings.ETCD_ENDPOINTS.length === 0) return null;
  const [ca, certificate, key, password] = await readFiles([
    settings.ETCD_CA_FILE,
    settings.ETCD_CERT_FILE,
    settings.ETCD_KEY_FILE,
    settings.ETCD_PASSWORD_FILE,
  ]);
  const username = settings.ETCD_USER;
  return createEtcdState({
    endpoints: settings.ETCD_ENDPOINTS,
    log,
    ...(ca ? { tls: { ca, ...(certificate ? { certificate } : {}), ...(key ? { key } : {}) } } : {}),
    ...(username !== undefined && password
      ? { auth: { username, password: password.toString('utf8').trim() } }
      : {}),
  });
}

/** @throws AppError `invalid_argument` for a file that cannot be read. */
export async function connectConsul(
  settings: StandaloneSettings,
  owner: string,
  log: Log,
): Promise<RegistryBackend | null> {
  if (settings.CONSUL_ADDRESS === undefined) return null;
  const [ca, certificate, key, token] = await readFiles([
    settings.CONSUL_CA_FILE,
    settings.CONSUL_CERT_FILE,
    settings.CONSUL_KEY_FILE,
    settings.CONSUL_TOKEN_FILE,
  ]);
  return createConsulBackend({
    address: settings.CONSUL_ADDRESS,
    owner,
    log,
    ...(token ? { token: token.toString('utf8').trim() } : {}),
    tls: { ...(ca ? { ca } : {}), ...(certificate ? { certificate } : {}), ...(key ? { key } : {}) },
  });
}

function readFiles(files: readonly (string | undefined)[]): Promise<(Buffer | undefined)[]> {
  return Promise.all(
    files.map(async (file) => {
      if (file === undefined) return undefined;
      return readFile(file).catch((cause: unknown) => {
        throw new AppError('invalid_argument', `cannot read ${file}, which a setting names`, { cause });
      });
    }),
  );
}

/** Of the engine's own networks: not where other hosts reach this one. */
const ownNetworks = /^(docker|br-|veth|cni|flannel|virbr)/;

/** The host's first address that is not loopback, IPv4 before IPv6; 127.0.0.1 where there is none. */
export function hostAddress(interfaces = networkInterfaces()): string {
  const all = Object.entries(interfaces)
    .filter(([name]) => !ownNetworks.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const [first] = [...all.filter(({ family }) => family === 'IPv4'), ...all];
  return first?.address ?? '127.0.0.1';
}
