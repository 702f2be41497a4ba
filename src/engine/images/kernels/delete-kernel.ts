import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { BangerError } from '../../../errors.ts';
import {
  deleteKernelName,
  deleteKernelRow,
  findDefaultKernel,
  setDefaultKernel,
  vmsOfKernel,
  type Kernel,
} from '../../../state/kernels.ts';
import { kernelPaths } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';
import { failpoint } from '../../failpoints.ts';
import { discardPath } from '../image-staging.ts';
import { clearRowless, tryMarkRowless } from '../rowless.ts';
import { publishKey } from '../publish-image.ts';
import { chooseKernel, shownKernel } from './find-kernel.ts';
import { embeddedName } from './kernel-name.ts';

export interface DeletedKernel {
  readonly untagged: string[];
  /** Id of the kernel, null when it is still there under other names */
  readonly deleted: string | null;
}

/** Deletes a kernel, or only the name given when it has others. One that VMs use, or that is the default, stays. */
export async function deleteKernel(
  context: ImageContext,
  reference: string,
  signal: AbortSignal,
): Promise<DeletedKernel> {
  const discarded = discardPath(context.layout);
  const result = await context.locks.publish.run(publishKey, signal, async () => {
    const kernel = chooseKernel(context.db, reference);
    if (!kernel) {
      throw new BangerError('invalid_argument', 'The kernel inside banger cannot be deleted', {
        hint: 'Make another one the default with: banger kernel set-default NAME',
      });
    }
    if (kernel.names.includes(reference) && kernel.names.length > 1) {
      deleteKernelName(context.db, reference);
      return { untagged: [reference], deleted: null };
    }
    refuseIfUsed(context, kernel);
    await forget(context, kernel, discarded);
    return { untagged: [...kernel.names], deleted: kernel.id };
  });
  await rm(discarded, { recursive: true, force: true });
  return result;
}

/** Makes a kernel the one of VMs that name none; those that exist keep theirs. */
export async function chooseDefaultKernel(
  context: ImageContext,
  reference: string,
  signal: AbortSignal,
): Promise<Kernel | undefined> {
  return context.locks.publish.run(publishKey, signal, async () => {
    const kernel = chooseKernel(context.db, reference);
    setDefaultKernel(context.db, kernel?.id);
    return kernel;
  });
}

async function forget({ db, layout }: ImageContext, kernel: Kernel, discarded: string): Promise<void> {
  const { directory } = kernelPaths(layout, kernel.id);
  // The row goes first, because only the database knows of a VM that is just being created. A directory without a
  // row that is marked so is removed when the next engine starts.
  await tryMarkRowless(directory);
  try {
    deleteKernelRow(db, kernel.id);
  } catch (error) {
    await clearRowless(directory);
    throw error;
  }
  await failpoint('kernel forgotten');
  await mkdir(layout.imageStagingDirectory, { recursive: true, mode: 0o700 });
  if (existsSync(directory)) await rename(directory, discarded);
}

/** Nobody comes in between: reading here and deleting the row are one turn of the event loop. */
function refuseIfUsed({ db }: ImageContext, kernel: Kernel): void {
  const vms = vmsOfKernel(db, kernel.id);
  if (vms.length > 0) {
    const list = vms.map((name) => `"${name}"`).join(', ');
    throw new BangerError('invalid_state', `Kernel "${shownKernel(kernel)}" is used by VM ${list}`, {
      hint: `Delete what uses it first: banger vm delete ${vms.join(' ')}`,
    });
  }
  if (findDefaultKernel(db)?.id !== kernel.id) return;
  throw new BangerError('invalid_state', `Kernel "${shownKernel(kernel)}" is the default`, {
    hint: `Make another one the default first: banger kernel set-default ${embeddedName}`,
  });
}
