/** `consul:/ID` is the service of that id at the agent of this host. */
export const CONSUL_SCHEME = 'consul:/';

/** An id is part of a path in the agent's API, where a dot or two would be levels. */
const SERVICE_ID = /^(?!\.{1,2}$)[A-Za-z0-9_.:-]{1,256}$/;

export function consulKey(serviceId: string): string {
  return `${CONSUL_SCHEME}${serviceId}`;
}

/** Null for a key that names no service of Consul. */
export function serviceIdOf(key: string): string | null {
  if (!key.startsWith(CONSUL_SCHEME)) return null;
  const id = key.slice(CONSUL_SCHEME.length);
  return SERVICE_ID.test(id) ? id : null;
}
