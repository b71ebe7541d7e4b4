export interface BoundedQueue<T> {
  /** Adds at the end; returns what had to go at the front to stay within the bounds. */
  push(item: T, sizeBytes: number): T[];
  /** Removes and returns up to maxItems from the front, stopping before maxBytes is exceeded (but at least one). */
  take(maxItems: number, maxBytes?: number): T[];
  readonly length: number;
  readonly sizeBytes: number;
}

/** First in, first out, bounded by count and by bytes; the oldest give way. */
export function createBoundedQueue<T>(bounds: { maxItems: number; maxBytes: number }): BoundedQueue<T> {
  let slots: { item: T; sizeBytes: number }[] = [];
  let head = 0; // index of the oldest: shift() on a long array would copy it each time
  let bytes = 0;

  function shift(): T | undefined {
    const slot = slots[head];
    if (slot === undefined) return undefined;
    head += 1;
    bytes -= slot.sizeBytes;
    if (head > 1024 && head * 2 > slots.length) {
      slots = slots.slice(head);
      head = 0;
    }
    return slot.item;
  }

  const queue: BoundedQueue<T> = {
    push(item, sizeBytes) {
      slots.push({ item, sizeBytes });
      bytes += sizeBytes;
      const dropped: T[] = [];
      while (queue.length > bounds.maxItems || (bytes > bounds.maxBytes && queue.length > 1)) {
        const oldest = shift();
        if (oldest === undefined) break;
        dropped.push(oldest);
      }
      return dropped;
    },
    take(maxItems, maxBytes = Infinity) {
      const taken: T[] = [];
      let takenBytes = 0;
      while (taken.length < maxItems) {
        takenBytes += slots[head]?.sizeBytes ?? 0;
        if (taken.length > 0 && takenBytes > maxBytes) break;
        const item = shift();
        if (item === undefined) break;
        taken.push(item);
      }
      return taken;
    },
    get length() {
      return slots.length - head;
    },
    get sizeBytes() {
      return bytes;
    },
  };
  return queue;
}
