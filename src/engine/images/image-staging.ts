import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Layout } from '../../state/layout.ts';
import { failpoint } from '../failpoints.ts';

/** Runs work in a new private directory beside the images, and removes what is left of it. */
export async function withStaging<T>(layout: Layout, work: (directory: string) => Promise<T>): Promise<T> {
  await mkdir(layout.imageStagingDirectory, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(layout.imageStagingDirectory, `image-${process.pid}-`));
  try {
    await failpoint('staging made');
    return await work(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOSPC') throw noSpace(layout.imageStagingDirectory, error);
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
    await failpoint('staging removed');
  }
}

/** A name in the staging directory for something that is to be removed. */
export function discardPath(layout: Layout): string {
  return join(layout.imageStagingDirectory, `discard-${process.pid}-${randomBytes(8).toString('hex')}`);
}

/** True for a name in the staging directory that this engine gave: whoever uses it removes it. */
export function isLiveStaging(name: string): boolean {
  return name.startsWith(`image-${process.pid}-`) || name.startsWith(`discard-${process.pid}-`);
}

export function noSpace(path: string, cause: unknown): BangerError {
  return new BangerError('host_unsupported', `The disk that holds "${path}" is full`, {
    hint: 'Free space there, for example with: banger image prune --all',
    cause,
  });
}
