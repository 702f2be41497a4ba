import { BangerError } from '../../../errors.ts';
import { embeddedKernel, type GuestKernel } from '../../../host/drivers/firecracker/version.ts';
import type { Database } from '../../../state/database.ts';
import {
  findDefaultKernel,
  findKernelByName,
  findKernelsByPrefix,
  getKernel,
  listKernels,
  type Kernel,
} from '../../../state/kernels.ts';
import { kernelPaths } from '../../../state/layout.ts';
import type { ImageContext } from '../../context.ts';
import { defaultName, embeddedName } from './kernel-name.ts';
import { isKernelPresent } from './kernel-files.ts';

/** Shortest id prefix accepted in place of a name. */
const minPrefixLength = 6;

/** What a VM boots with, as paths on the host. */
export interface KernelFiles {
  readonly kernel: string;
  /** Archive for the initramfs */
  readonly modules: string;
}

/**
 * The kernel that a user means: by name, or by an unambiguous start of its id. Undefined is the one inside banger,
 * for `embedded`, and for no reference or `default` while that is the default.
 */
export function chooseKernel(db: Database, reference: string | undefined): Kernel | undefined {
  if (reference === undefined || reference === defaultName) return findDefaultKernel(db);
  if (reference === embeddedName) return undefined;
  const named = findKernelByName(db, reference);
  if (named) return named;
  const isPrefix = reference.length >= minPrefixLength && /^[0-9a-f]+$/.test(reference);
  const matches = isPrefix ? findKernelsByPrefix(db, reference) : [];
  if (matches.length === 1) return matches[0];
  if (matches.length > 1) {
    const shown = matches.map((kernel) => `${kernel.id.slice(0, 12)} (${shownKernel(kernel)})`).join(', ');
    throw new BangerError('invalid_argument', `"${reference}" could be any of these kernels: ${shown}`, {
      hint: 'Give a name or more digits of the id',
    });
  }
  throw new BangerError('not_found', `There is no kernel "${reference}" on this host`, {
    hint: closeHint(db, reference),
  });
}

/** How people are told which kernel it is. */
export function shownKernel(kernel: Kernel | undefined): string {
  return kernel ? (kernel.names[0] ?? kernel.id.slice(0, 12)) : embeddedName;
}

/** What choosing a VMM has to know of the kernel of a VM. */
export function guestKernel(db: Database, kernelId: string | undefined): GuestKernel {
  if (kernelId === undefined) return embeddedKernel;
  const kernel = getKernel(db, kernelId);
  return { name: shownKernel(kernel), readsDeviceWords: kernel.readsDeviceWords };
}

/** The files that a VM boots with; throws when somebody removed them or cut them off behind our back. */
export async function kernelFiles(context: ImageContext, kernelId: string | undefined): Promise<KernelFiles> {
  const { assets, layout, db } = context;
  if (kernelId === undefined)
    return { kernel: await assets.file('vmlinux.zst'), modules: await assets.file('modules.cpio') };
  const kernel = getKernel(db, kernelId);
  const paths = kernelPaths(layout, kernel.id);
  if (isKernelPresent(context, kernel.id))
    return { kernel: kernel.format === 'elf' ? paths.vmlinux : paths.bzImage, modules: paths.modules };
  throw new BangerError('invalid_state', `The files of kernel "${shownKernel(kernel)}" are gone or damaged`, {
    hint: `Import it again from "${kernel.origin}": banger kernel import FILE --name ${shownKernel(kernel)}`,
  });
}

function closeHint(db: Database, reference: string): string {
  const names = listKernels(db).flatMap((kernel) => kernel.names);
  const close = names.find((name) => name.startsWith(reference) || reference.startsWith(name));
  return close
    ? `Did you mean "${close}"? List kernels with: banger kernel list`
    : 'List kernels with: banger kernel list';
}
