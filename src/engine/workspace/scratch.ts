import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Runs a task with a private directory that is removed afterwards, however the task ends. */
export async function withScratch<T>(task: (directory: string) => Promise<T>): Promise<T> {
  // `mkdtemp` makes it with mode 0700: it holds the user's source code.
  const directory = await mkdtemp(join(tmpdir(), 'banger-workspace-'));
  try {
    return await task(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
