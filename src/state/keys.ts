/** Names of all keys in shared state. No other file spells one. */
const root = '/openebs';

export const keys = {
  root: `${root}/`,
  cluster: `${root}/cluster`,
  /** How the plugin's own etcd is to be spread over the hosts. */
  formation: `${root}/formation`,
  /** What each host says of itself as a place for a member of etcd. */
  peer: (node: string) => `${root}/peers/${node}`,
  peers: `${root}/peers/`,
  /** Which member a host has to run. */
  duty: (node: string) => `${root}/duties/${node}`,
  duties: `${root}/duties/`,
  /** Held, with a lease, by the host that changes the members. */
  manager: `${root}/manager`,
  /** The whole cluster is being taken down. While it is there nothing is made and nothing attached. */
  ending: `${root}/ending`,
  /** A host has carried out its part of that. */
  ended: (node: string) => `${root}/ended/${node}`,
  allEnded: `${root}/ended/`,
  /** Held, with a lease, by the host that makes its member anew from the image of its plugin. */
  renewal: `${root}/renewal`,
  joinToken: (id: string) => `${root}/tokens/${id}`,
  joinTokens: `${root}/tokens/`,
  /** What people have set for a host, whether it is there or not. */
  nodeSettings: (node: string) => `${root}/settings/${node}`,
  allNodeSettings: `${root}/settings/`,
  node: (node: string) => `${root}/nodes/${node}`,
  nodes: `${root}/nodes/`,
  alive: (node: string) => `${root}/alive/${node}`,
  allAlive: `${root}/alive/`,
  /** The name is the key: creating it is the lock. */
  volume: (name: string) => `${root}/volumes/${name}`,
  volumes: `${root}/volumes/`,
  target: (volumeId: string, copy: number) => `${root}/targets/${volumeId}/${String(copy)}`,
  targetsOf: (volumeId: string) => `${root}/targets/${volumeId}/`,
  targets: `${root}/targets/`,
  attachment: (volumeId: string) => `${root}/attachments/${volumeId}`,
  attachments: `${root}/attachments/`,
  eviction: (node: string, volumeId: string) => `${root}/evictions/${node}/${volumeId}`,
  evictionsOf: (node: string) => `${root}/evictions/${node}/`,
  event: (node: string, time: string, sequence: string) => `${root}/events/${node}/${time}-${sequence}`,
  /** What owners want a key of the registry to be; the key itself may be anywhere. */
  claim: (key: string, owner: string) => `${root}/registry/claims/${encodeURIComponent(key)}/${owner}`,
  claimsOf: (key: string) => `${root}/registry/claims/${encodeURIComponent(key)}/`,
  claims: `${root}/registry/claims/`,
  /** Marks a key that more than one owner has claimed. */
  sharedKey: (key: string) => `${root}/registry/shared/${encodeURIComponent(key)}`,
  sharedKeys: `${root}/registry/shared/`,
  registry: `${root}/registry/`,
  /** What policies may write below our root: the inventory, and services. */
  objects: `${root}/objects/`,
  services: `${root}/services/`,
  vsms: `${root}/vsms/`,
  /** Configurations of policies, by policy and instance: for people to write. */
  policies: `${root}/policies/`,
  events: `${root}/events/`,
  eventsOf: (node: string) => `${root}/events/${node}/`,
} as const;
