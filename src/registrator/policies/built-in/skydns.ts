/**
 * Names for CoreDNS and SkyDNS: each running container under its hostname, as Kontena's registrator wrote them.
 * Source of the layout: CoreDNS, plugin etcd: /skydns/<domain reversed>/<name> = {"host": address}.
 */
import { z } from 'zod';
import type { BuiltIn } from './built-in.js';

const config = z.strictObject({
  /** Below which names are found. */
  domain: z.string().min(1).default('skydns.local'),
  /** Whose addresses they are. */
  network: z.string().min(1).default('bridge'),
});

export const skydns: BuiltIn<z.infer<typeof config>> = {
  name: 'skydns',
  config,
  merge: 'min',
  functions: {
    container({ container }, { domain, network }) {
      const found = container?.networks[network];
      const host = found?.ip === '' ? found.ip6 : found?.ip;
      if (!container || !host) return null;
      return { [`/skydns/${domain.split('.').toReversed().join('/')}/${container.hostname}`]: { host } };
    },
  },
};
