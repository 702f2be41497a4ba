/**
 * How glibc has to be told, before the engine starts, to give memory back to the kernel: by default it keeps what
 * many threads and buffers have left in pieces, 20 MB after a few creates.
 */
export const allocatorEnv = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_TRIM_THRESHOLD_: '65536',
  MALLOC_MMAP_THRESHOLD_: '8192',
  MALLOC_TOP_PAD_: '0',
} as const;

/** Programs that the engine starts are not to have its allocator's settings. */
export function forgetAllocatorEnv(env: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(allocatorEnv)) delete env[name];
}
