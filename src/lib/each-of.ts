/** Calls `operation` for each item, `atOnce` of them side by side. Rejects with the first failure. */
export async function eachOf<T>(
  items: readonly T[],
  atOnce: number,
  operation: (item: T) => Promise<void>,
): Promise<void> {
  const left = items.values();
  const worker = async () => {
    for (const item of left) await operation(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
