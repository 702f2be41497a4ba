/**
 * How glibc has to be told, before the engine starts, to give memory back to the kernel: by default it keeps what
 * many threads and buffers have left in pieces, 20 MB after a few creates.
 *
 * What is as large as the threshold for mmap comes from the kernel by itself, and costs page faults and a system call
 * each way. V8's compilers take memory in pieces of 8 to 32 KiB, thousands of them: the threshold is above the largest,
 * or a pull that has code compiled takes half as long again.
 */
export const allocatorEnv = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_TRIM_THRESHOLD_: '65536',
  MALLOC_MMAP_THRESHOLD_: '40960',
  MALLOC_TOP_PAD_: '0',
} as const;

/** Programs that the engine starts are not to have its allocator's settings. */
export function forgetAllocatorEnv(env: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(allocatorEnv)) delete env[name];
}
