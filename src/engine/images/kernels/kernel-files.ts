import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import * as z from 'zod/mini';
import { errnoOf } from '../../../errors.ts';
import { findKernel } from '../../../state/kernels.ts';
import { kernelPaths, type KernelPaths } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';

/** True when a kernel has both its row and its files, none of them cut off or grown. */
export function isKernelPresent({ layout, db }: Pick<ImageContext, 'layout' | 'db'>, id: string): boolean {
  const kernel = findKernel(db, id);
  if (!kernel) return false;
  const paths = kernelPaths(layout, id);
  return (
    sizeOf(paths.vmlinux) === kernel.imageBytes &&
    sizeOf(paths.modules) === kernel.modulesBytes &&
    (kernel.format === 'elf' || isWhole(paths))
  );
}

/** The row does not have the size of what boots where the kernel itself does not. Earlier versions wrote it nowhere. */
function isWhole({ bzImage, manifest }: KernelPaths): boolean {
  const size = sizeOf(bzImage);
  if (size === undefined) return false;
  const known = manifestSchema.safeParse(readJson(manifest));
  return !known.success || known.data.bzImageBytes === size;
}

const manifestSchema = z.object({ bzImageBytes: z.number() });

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    // It is there for people, and of no use to guests.
    if (error instanceof SyntaxError || errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Compares all of two kernels' files: in what a VM boots from, sizes are what there is time for. */
export async function hasSameFiles(there: KernelPaths, wanted: KernelPaths): Promise<boolean> {
  for (const file of ['vmlinux', 'bzImage', 'modules'] as const) {
    if (sizeOf(there[file]) !== sizeOf(wanted[file])) return false;
    if (existsSync(wanted[file]) && (await hashOf(there[file])) !== (await hashOf(wanted[file])))
      return false;
  }
  return true;
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>)
    hash.update(chunk);
  return hash.digest('hex');
}

export function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size;
}
