/** Of a program that reads what a guest made: files of half a gigabyte fit, with what is worked out of them. */
export const guestDataMemoryBytes = 1.5 * 1024 ** 3;

/**
 * Has a program end, by its own error, before it takes more memory than this by itself. Files that it maps to read do
 * not count. Node cannot set limits of the processes it starts.
 */
export function withMemoryLimit(
  argv: readonly [string, ...string[]],
  bytes: number | undefined,
): readonly [string, ...string[]] {
  if (bytes === undefined) return argv;
  // A limit that cannot be set is one that is lower already.
  const script = 'ulimit -d "$0" 2>/dev/null; exec "$@"';
  return ['/bin/sh', '-c', script, String(Math.floor(bytes / 1024)), ...argv];
}

/** Whether what git said is that it was refused memory. */
export function isOutOfMemory(words: string): boolean {
  return /out of memory|cannot allocate memory|unable to create thread/i.test(words);
}
