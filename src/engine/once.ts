/** Does something once, for all who ask; a failure is not remembered. */
export function once<T>(work: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= work();
    result.catch(() => (result = undefined));
    return result;
  };
}

/** Does something for each key, once for all who ask while it is being done; afterwards it is done anew. */
export function shared<T>(): (key: string, work: () => Promise<T>) => Promise<T> {
  const going = new Map<string, Promise<T>>();
  return (key, work) => {
    const known = going.get(key);
    if (known) return known;
    const forget = (): void => void going.delete(key);
    const result = work();
    going.set(key, result);
    result.then(forget, forget);
    return result;
  };
}

/**
 * What the configuration says now, or said last: a file that became wrong meanwhile must not end the engine, and is
 * told to whoever asks for something that needs it.
 */
export function lastGood<T>(read: () => T): () => T {
  let last = read();
  return () => {
    try {
      last = read();
    } catch {
      // As said above.
    }
    return last;
  };
}
