/** A fake engine with containers that look like those of real ones, about 5 kB of inspection each. */
import { containerEvent, startFakeEngine, type FakeEngine } from '../fakes/engine-server.js';

export interface FakeContainers {
  readonly engine: FakeEngine;
  readonly ids: readonly string[];
  /** Makes one more; nothing is told of it. */
  add(): string;
  /** Takes the oldest one away; nothing is told of it. */
  removeOldest(): string;
  /** What its next inspection tells differs from the one before. */
  change(id: string): void;
  event(action: string, id: string): ReturnType<typeof containerEvent>;
}

interface Container {
  readonly number: number;
  version: number;
}

export async function startFakeContainers(count: number): Promise<FakeContainers> {
  const engine = await startFakeEngine();
  const containers = new Map<string, Container>();
  let last = 0;
  const list = (path: string, body: () => unknown) => {
    engine.handle('GET', path, (_request, response) => response.end(JSON.stringify(body())));
  };
  list('/containers/json', () => [...containers.keys()].map((Id) => ({ Id })));
  list('/images/json', () => []);
  list('/plugins', () => []);
  list('/volumes', () => ({ Volumes: null }));
  list('/networks', () => []);
  for (const kind of ['services', 'nodes', 'secrets', 'configs'])
    engine.handle('GET', `/${kind}`, (_request, response) =>
      response.writeHead(503).end('{"message":"this node is not a swarm manager"}'),
    );
  const world: FakeContainers = {
    engine,
    get ids() {
      return [...containers.keys()];
    },
    add() {
      const number = (last += 1);
      const id = number.toString(16).padStart(8, '0').repeat(8);
      containers.set(id, { number, version: 0 });
      engine.handle('GET', `/containers/${id}/json`, (_request, response) => {
        const container = containers.get(id);
        if (container) response.end(JSON.stringify(inspectionOf(id, container)));
        else response.writeHead(404).end('{"message":"No such container"}');
      });
      return id;
    },
    removeOldest() {
      const [id = ''] = containers.keys();
      containers.delete(id);
      return id;
    },
    change(id) {
      const container = containers.get(id);
      if (container) container.version += 1;
    },
    event: (action, id) =>
      containerEvent(action, id, { image: 'registry.example/team/app:1.2.3', name: `app-${id.slice(0, 8)}` }),
  };
  for (let made = 0; made < count; made += 1) world.add();
  return world;
}

/** An even version runs, an odd one is paused: that shows in the inventory, and in the services. */
export function inspectionOf(id: string, { number, version }: Container): Record<string, unknown> {
  const group = number % 50;
  const layers = `/var/lib/docker/overlay2/${id}`;
  const address = `172.18.${String(number >> 8)}.${String(number & 255)}`;
  const endpoint = (network: string, ip: string) => ({
    IPAMConfig: null,
    Links: null,
    Aliases: [`app-${String(number)}`, id.slice(0, 12)],
    NetworkID: `${network}${id}`.slice(0, 64),
    EndpointID: id,
    Gateway: '172.18.0.1',
    IPAddress: ip,
    IPPrefixLen: 16,
    IPv6Gateway: '',
    GlobalIPv6Address: '',
    GlobalIPv6PrefixLen: 0,
    MacAddress: '02:42:ac:12:00:02',
    DriverOpts: null,
  });
  const ports = { '8080/tcp': [{ HostIp: '0.0.0.0', HostPort: String(20_000 + number) }], '9090/tcp': null };
  return {
    Id: id,
    Created: '2026-11-21T08:00:00.123456789Z',
    Path: '/usr/local/bin/docker-entrypoint.sh',
    Args: ['serve', '--config', '/etc/app/config.yaml', '--listen', '0.0.0.0:8080'],
    State: {
      Status: version % 2 === 0 ? 'running' : 'paused',
      Running: true,
      Paused: version % 2 !== 0,
      Restarting: false,
      OOMKilled: false,
      Dead: false,
      Pid: 10_000 + number,
      ExitCode: 0,
      Error: '',
      StartedAt: '2026-11-21T08:00:01.123456789Z',
      FinishedAt: '0001-01-01T00:00:00Z',
    },
    Image: `sha256:${id}`,
    ResolvConfPath: `/var/lib/docker/containers/${id}/resolv.conf`,
    HostnamePath: `/var/lib/docker/containers/${id}/hostname`,
    HostsPath: `/var/lib/docker/containers/${id}/hosts`,
    LogPath: `/var/lib/docker/containers/${id}/${id}-json.log`,
    Name: `/app-${String(number)}`,
    RestartCount: 0,
    Driver: 'overlay2',
    Platform: 'linux',
    AppArmorProfile: 'docker-default',
    ExecIDs: null,
    HostConfig: {
      Binds: [`data-${String(number)}:/var/lib/app:rw`, '/etc/app:/etc/app:ro'],
      LogConfig: { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '3' } },
      NetworkMode: 'bridge',
      PortBindings: { '8080/tcp': ports['8080/tcp'] },
      RestartPolicy: { Name: 'unless-stopped', MaximumRetryCount: 0 },
      AutoRemove: false,
      CapAdd: null,
      CapDrop: ['ALL'],
      Dns: [],
      IpcMode: 'private',
      Privileged: false,
      ReadonlyRootfs: true,
      SecurityOpt: ['no-new-privileges'],
      ShmSize: 67_108_864,
      Memory: 536_870_912,
      NanoCpus: 500_000_000,
      Ulimits: [{ Name: 'nofile', Hard: 65_536, Soft: 65_536 }],
      MaskedPaths: ['/proc/asound', '/proc/acpi', '/proc/kcore', '/proc/keys', '/proc/timer_list'],
      ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
    GraphDriver: {
      Data: {
        LowerDir: `${layers}-init/diff:${layers}a/diff:${layers}b/diff`,
        MergedDir: `${layers}/merged`,
        UpperDir: `${layers}/diff`,
        WorkDir: `${layers}/work`,
      },
      Name: 'overlay2',
    },
    Mounts: [
      {
        Type: 'volume',
        Name: `data-${String(number)}`,
        Source: `/var/lib/docker/volumes/data-${String(number)}/_data`,
        Destination: '/var/lib/app',
        Driver: 'local',
        Mode: 'rw',
        RW: true,
        Propagation: '',
      },
      {
        Type: 'bind',
        Source: '/etc/app',
        Destination: '/etc/app',
        Mode: 'ro',
        RW: false,
        Propagation: 'rprivate',
      },
    ],
    Config: {
      Hostname: id.slice(0, 12),
      Domainname: '',
      User: '1000:1000',
      ExposedPorts: { '8080/tcp': {}, '9090/tcp': {} },
      Tty: false,
      Env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'LANG=C.UTF-8',
        `DATABASE_URL=postgres://app-${String(number)}@db.internal:5432/app`,
        'SERVICE_TAGS=production,http',
        'SERVICE_9090_IGNORE=true',
      ],
      Cmd: ['serve', '--config', '/etc/app/config.yaml', '--listen', '0.0.0.0:8080'],
      Image: `registry.example/team/app-${String(group)}:1.2.3`,
      Volumes: { '/var/lib/app': {} },
      WorkingDir: '/srv',
      Entrypoint: ['/usr/local/bin/docker-entrypoint.sh'],
      Labels: {
        'com.docker.compose.project': `stack-${String(group)}`,
        'com.docker.compose.service': `app-${String(group)}`,
        'com.docker.compose.container-number': String(number),
        'com.docker.compose.config-hash': id,
        'org.opencontainers.image.source': 'https://example.org/team/app',
      },
      StopSignal: 'SIGTERM',
    },
    NetworkSettings: {
      Bridge: '',
      SandboxID: id,
      HairpinMode: false,
      Ports: ports,
      SandboxKey: `/var/run/docker/netns/${id.slice(0, 12)}`,
      EndpointID: id,
      Gateway: '172.17.0.1',
      IPAddress: address,
      IPPrefixLen: 16,
      MacAddress: '02:42:ac:11:00:02',
      Networks: {
        bridge: endpoint('b', address),
        backend: endpoint('n', address.replace('172.18', '10.20')),
      },
    },
  };
}
