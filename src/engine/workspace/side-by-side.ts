/**
 * Runs two tasks at once and returns what both make. When one fails the other is told to end; once it has, the
 * failure that came first is thrown.
 */
export async function sideBySide<A, B>(
  signal: AbortSignal,
  one: (signal: AbortSignal) => Promise<A>,
  other: (signal: AbortSignal) => Promise<B>,
): Promise<[A, B]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  let failure: { readonly error: unknown } | undefined;
  const run = async <T>(task: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> => {
    try {
      return await task(both);
    } catch (error) {
      failure ??= { error };
      stop.abort();
      return undefined;
    }
  };
  const [first, second] = await Promise.all([run(one), run(other)]);
  if (failure) throw failure.error;
  return [first as A, second as B];
}
