import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inSmallYoungSpace } from '../young-space.ts';
import type { Layout } from '../../state/layout.ts';

type ScratchPlace = Pick<Layout, 'scratchDirectory'>;

/**
 * Runs a task with a private directory that is removed afterwards, however the task ends. Who needs one works through
 * a tree, which may have a great many files.
 */
export async function withScratch<T>(
  { scratchDirectory }: ScratchPlace,
  task: (directory: string) => Promise<T>,
): Promise<T> {
  // Both are closed to others: they hold the user's source code.
  await mkdir(scratchDirectory, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(scratchDirectory, 'workspace-'));
  try {
    return await inSmallYoungSpace(() => task(directory));
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Removes what tasks of an engine left that died. Only for the start of an engine. */
export async function cleanScratch({ scratchDirectory }: ScratchPlace): Promise<void> {
  // A git that it had started may be at work in there still.
  await rm(scratchDirectory, { recursive: true, force: true, maxRetries: 5 });
}
