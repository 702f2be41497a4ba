/** Does something once, for all who ask; a failure is not remembered. */
export function once<T>(work: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= work();
    result.catch(() => (result = undefined));
    return result;
  };
}

/** The same for each key. */
export function oncePer<T>(work: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const known = new Map<string, () => Promise<T>>();
  return (key) => {
    const ask = known.get(key) ?? once(() => work(key));
    known.set(key, ask);
    return ask();
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
