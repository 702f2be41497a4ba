import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { syncDirectory, syncFile } from '../../../host/files.ts';
import type { Database } from '../../../state/database.ts';
import { findKernel, insertKernel, listKernels, type Kernel } from '../../../state/kernels.ts';
import { kernelPaths, type KernelPaths, type Layout } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';
import { failpoint } from '../../failpoints.ts';
import { discardPath } from '../image-staging.ts';
import { publishKey } from '../publish-image.ts';
import { hasSameFiles, isKernelPresent, sizeOf } from './kernel-files.ts';
import { clearRowless, markRowless, settleRowless } from '../rowless.ts';

/** A finished kernel, and the name that is to lead to it. */
export interface KernelPublication {
  /** Of the staging directory, which is renamed when the kernel is new, else left to be removed */
  readonly paths: KernelPaths;
  readonly kernel: Omit<Kernel, 'names' | 'createdAt'>;
  readonly name: string;
}

/**
 * Makes a finished kernel known: its directory renamed into place, then its row and name in one transaction. Of two
 * that want one name, the second finds it taken (`already_exists`), and nothing of it stays.
 */
export async function publishKernel(
  context: ImageContext,
  publication: KernelPublication,
  signal: AbortSignal,
): Promise<Kernel> {
  const { layout, db } = context;
  const { paths, name } = publication;
  const kernel = { ...publication.kernel, createdAt: new Date().toISOString() };
  const bzImageBytes = sizeOf(paths.bzImage);
  const manifest = JSON.stringify({ name, ...kernel, bzImageBytes }, undefined, 2);
  await writeFile(paths.manifest, `${manifest}\n`, { mode: 0o600 });
  // Outside the lock, since flushing takes its time.
  for (const path of [paths.vmlinux, paths.bzImage, paths.modules, paths.manifest]) {
    // Most kernels have no bzImage.
    if (existsSync(path)) await syncFile(path);
  }
  await markRowless(paths.directory);
  await syncDirectory(paths.directory);
  await failpoint('kernel synced');

  const discarded = discardPath(layout);
  const publish = async (): Promise<Kernel> => {
    const there = kernelPaths(layout, kernel.id);
    const { directory } = there;
    // Read whole: that takes a tenth of a second, and whoever imports a kernel again may have a reason.
    const isIntact = isKernelPresent(context, kernel.id) && (await hasSameFiles(there, paths));
    if (!isIntact) {
      await mkdir(layout.kernelsDirectory, { recursive: true, mode: 0o700 });
      // Without its row, or with files that are not what they were, what lies there is of no use to anybody.
      if (existsSync(directory)) await rename(directory, discarded);
      await rename(paths.directory, directory);
      await syncDirectory(layout.kernelsDirectory);
    }
    try {
      await failpoint('kernel in place');
      const recorded = insertKernel(db, kernel, name);
      await clearRowless(directory);
      return recorded;
    } catch (error) {
      if (!findKernel(db, kernel.id)) await rm(directory, { recursive: true, force: true });
      throw error;
    }
  };
  try {
    return await context.locks.publish.run(publishKey, signal, publish);
  } finally {
    await rm(discarded, { recursive: true, force: true });
  }
}

/**
 * Removes directories of kernels that no row owns: an engine died between renaming and recording, or between
 * forgetting and removing. Returns those that the database has lost. Only for the start of an engine, before anything
 * is published.
 */
export async function removeUnownedKernels(layout: Layout, db: Database): Promise<string[]> {
  const owned = new Set(listKernels(db).map((kernel) => kernel.id));
  return settleRowless(layout.kernelsDirectory, owned, 'kernel.json');
}
