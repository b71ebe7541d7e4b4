import { connect, createServer, type Socket } from 'node:net';

/** A wire between client and server that can fail in the ways wires do. */
export interface TcpProxy {
  readonly port: number;
  /** Breaks all connections and refuses new ones until `restore`. */
  cut(): void;
  /** Keeps what the server answers from the client, but lets requests through. */
  holdReplies(): void;
  /** Keeps requests from the server. */
  holdRequests(): void;
  /** Breaks connections whose replies are held, so that those replies are lost for ever. */
  dropReplies(): void;
  /** Everything passes again; what was held, too. */
  restore(): void;
  /** Resolves when the server has sent something that is being held. */
  heldReply(): Promise<void>;
  readonly connections: number;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Pair {
  client: Socket;
  server: Socket;
}

export async function createTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  const state = { refuse: false, replies: true, requests: true };
  const waiting: (() => void)[] = [];

  const accept = (client: Socket) => {
    if (state.refuse) {
      client.destroy();
      return;
    }
    const server = connect(targetPort, '127.0.0.1');
    const pair = { client, server };
    pairs.add(pair);
    const held: Record<'replies' | 'requests', Buffer[]> = { replies: [], requests: [] };
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    const pump = (from: Socket, to: Socket, kind: 'replies' | 'requests') => {
      from.on('data', (chunk) => {
        held[kind].push(chunk);
        if (!state[kind]) {
          if (kind === 'replies') for (const wake of waiting.splice(0)) wake();
          return;
        }
        for (const ready of held[kind].splice(0)) to.write(ready);
      });
      from.on('error', end).on('close', end);
      to.on('flush-held', () => {
        for (const ready of held[kind].splice(0)) to.write(ready);
      });
    };
    pump(client, server, 'requests');
    pump(server, client, 'replies');
  };
  const listener = createServer(accept);
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));

  const breakAll = () => {
    for (const { client, server } of pairs) {
      client.destroy();
      server.destroy();
    }
    pairs.clear();
  };
  return {
    port: (listener.address() as { port: number }).port,
    cut() {
      state.refuse = true;
      breakAll();
    },
    holdReplies: () => (state.replies = false),
    holdRequests: () => (state.requests = false),
    dropReplies() {
      breakAll();
      state.replies = true;
    },
    restore() {
      Object.assign(state, { refuse: false, replies: true, requests: true });
      for (const { client, server } of pairs) {
        client.emit('flush-held');
        server.emit('flush-held');
      }
    },
    heldReply: () => new Promise<void>((resolve) => waiting.push(resolve)),
    get connections() {
      return pairs.size;
    },
    async [Symbol.asyncDispose]() {
      breakAll();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
