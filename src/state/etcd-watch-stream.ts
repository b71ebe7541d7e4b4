import type { IDuplexStream, IWatchRequest, IWatchResponse } from 'etcd3';
import { AppError } from '../errors.js';
import type { EtcdClient } from './etcd-client.js';

type Stream = IDuplexStream<IWatchRequest, IWatchResponse>;

export interface Follower {
  onResponse(response: IWatchResponse): void;
  /** The stream, or this watch on it, is over. */
  onEnd(reason: unknown): void;
}

/** The one gRPC stream that carries all watches: opened for the first follower, cancelled after the last. */
export class EtcdWatchStream {
  readonly #client: EtcdClient;
  readonly #followers = new Map<string, Follower>();
  #nextId = 1;
  #opening: Promise<Stream> | undefined;

  constructor(client: EtcdClient) {
    this.#client = client;
  }

  /** The number of a watch is chosen by us, so that a confirmation tells which request it belongs to. */
  add(
    request: { key: Buffer; range_end: Buffer; start_revision: number },
    follower: Follower,
  ): { remove(): void } {
    const id = String(this.#nextId++);
    this.#followers.set(id, follower);
    const stream = (this.#opening ??= this.#open());
    this.#send(stream, { create_request: { ...request, watch_id: id } });
    return {
      remove: () => {
        if (!this.#followers.delete(id)) return;
        if (this.#followers.size === 0) this.end(undefined);
        else this.#send(stream, { cancel_request: { watch_id: id } });
      },
    };
  }

  /** Ends the stream and all that follow it, with a reason unless all is well; the next `add` opens a new one. */
  end(reason: unknown): void {
    const followers = [...this.#followers.values()];
    this.#followers.clear();
    this.#opening?.then(
      (stream) => {
        // A cancelled stream makes etcd3 throw away its connections: right for a dead one only.
        if (reason === undefined) stream.end();
        else stream.cancel();
      },
      () => undefined,
    );
    this.#opening = undefined;
    for (const follower of followers) follower.onEnd(reason);
  }

  #send(stream: Promise<Stream>, message: IWatchRequest): void {
    stream.then(
      (opened) => {
        if (this.#opening === stream) opened.write(message);
      },
      () => undefined,
    );
  }

  #open(): Promise<Stream> {
    const mine = this.#client
      .stream((etcd) => etcd.watchClient.watch())
      .then((stream) => {
        stream.on('error', endMine);
        stream.on('end', () => {
          endMine(new AppError('unavailable', 'etcd ended the watch stream'));
        });
        stream.on('data', (response) => {
          if (this.#opening === mine) this.#dispatch(response);
        });
        return stream;
      });
    const endMine = (reason: unknown) => {
      if (this.#opening === mine) this.end(reason);
    };
    mine.catch(endMine);
    return mine;
  }

  #dispatch(response: IWatchResponse): void {
    const follower = this.#followers.get(response.watch_id);
    if (!response.canceled) {
      follower?.onResponse(response);
      return;
    }
    const why = new Error(`etcd cancelled a watch: ${reasonOf(response)}`);
    if (follower) {
      this.#followers.delete(response.watch_id);
      follower.onEnd(why);
    } else if (response.created) {
      // Refused before it had its number, as after the login ran out: no telling whose it was.
      this.end(why);
    }
  }
}

function reasonOf(response: IWatchResponse): string {
  if (Number(response.compact_revision) > 0) return 'the history it still needed has been compacted';
  return response.cancel_reason || 'no reason given';
}
