import { ConnectionError } from './transport.ts';

/**
 * Asks with a signal that also ends it when the answer is late: whoever sends a byte now and then, or one redirect after
 * the other, keeps the transport waiting. What comes after the answer, such as the body of a blob, has its own time.
 */
export async function answerInTime<T>(
  {
    host,
    answerMs,
    signal,
  }: { readonly host: string; readonly answerMs: number; readonly signal: AbortSignal },
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => {
    const what = `Registry "${host}" did not answer within ${answerMs / 1000} s`;
    const hint = 'Check the network and the name of the registry, then try again';
    late.abort(new ConnectionError(what, { isTransient: true, isTimeout: true, hint, cause: undefined }));
  }, answerMs);
  try {
    return await ask(AbortSignal.any([signal, late.signal]));
  } finally {
    clearTimeout(timer);
  }
}
