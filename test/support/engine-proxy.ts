/** Stands between the plugin and its engine's socket: passes calls on, or accepts them and never answers. */
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { LabHost } from './lab.js';

export interface EngineProxy {
  /** Of the host: for the setting DOCKER_SOCKET. */
  readonly path: string;
  /** Listens, also again after a reboot has emptied /run. */
  listen(): Promise<void>;
  /** From now on, calls are held; those under way break off. */
  hold(): void;
  pass(): void;
  /** Calls that were held. */
  readonly held: number;
  close(): void;
}

const FOLDER = 'proxied';
const FILE = 'engine.sock';

export function createEngineProxy(host: LabHost): EngineProxy {
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  let holding = false;
  let held = 0;

  // The path of a socket may have 107 bytes and a lab host's are long: it is named by its open directory.
  function near<T>(directory: string, file: string, use: (path: string) => T): T {
    const handle = openSync(directory, 'r');
    setTimeout(() => {
      closeSync(handle);
    }, 1000);
    return use(`/proc/self/fd/${String(handle)}/${file}`);
  }

  function keep(socket: Socket): void {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  }

  function take(client: Socket): void {
    keep(client);
    if (holding) {
      held += 1;
      client.resume();
      return;
    }
    const engine = near(host.run, 'docker.sock', (path) => connect(path));
    keep(engine);
    engine.on('close', () => client.destroy());
    client.on('close', () => engine.destroy());
    client.pipe(engine).pipe(client);
  }

  function endAll(): void {
    for (const socket of sockets) socket.destroy();
  }

  return {
    path: `/run/${FOLDER}/${FILE}`,
    get held() {
      return held;
    },
    async listen() {
      server?.close();
      endAll();
      const folder = join(host.run, FOLDER);
      mkdirSync(folder, { recursive: true });
      rmSync(join(folder, FILE), { force: true });
      const next = createServer({ allowHalfOpen: true }, take);
      server = next;
      await new Promise<void>((resolve, reject) => {
        next.once('error', reject);
        near(folder, FILE, (path) => next.listen(path, resolve));
      });
    },
    hold() {
      holding = true;
      endAll();
    },
    pass() {
      holding = false;
      endAll();
    },
    close() {
      server?.close();
      endAll();
    },
  };
}
