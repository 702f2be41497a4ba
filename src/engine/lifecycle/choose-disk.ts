import { stat } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';
import type { DiskMethodName } from '../../state/disk-methods.ts';
import { getImage } from '../../state/images.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { guestKernel } from '../images/kernels/find-kernel.ts';
import { rootfsFile } from '../images/rootfs-file.ts';
import { vmsPlace } from './root-disk.ts';

/**
 * How the root disk of a new VM is made: as the configuration says, else by the best means that the VMM which will run
 * it, and the filesystem, have.
 */
export async function chooseDiskMethod(
  context: EngineContext,
  vm: Pick<Vm, 'imageId' | 'network' | 'cpus' | 'kernelId'>,
): Promise<DiskMethodName> {
  const { diskMethod, vmmDriver } = context.config();
  if (diskMethod === 'qcow2' && vmmDriver === 'firecracker') {
    throw new BangerError(
      'invalid_argument',
      'Firecracker, on which the configuration insists, cannot read qcow2 disks',
      {
        hint: 'Let banger choose: set method = "auto" under [disk] in the configuration',
      },
    );
  }
  if (diskMethod !== 'auto') return diskMethod;
  const kernel = guestKernel(context.db, vm.kernelId);
  if (!(await context.wantsRawDisk({ network: vm.network, cpus: vm.cpus, kernel }))) return 'qcow2';
  const vms = await vmsPlace(context);
  const rootfs = await rootfsFile(context, getImage(context.db, vm.imageId));
  const [ours, image] = await Promise.all([stat(vms), stat(rootfs)]);
  // An image of the user's may be on another filesystem. On one, too, files may be of kinds that share nothing.
  const canShare = ours.dev === image.dev && (await context.diskProbes.reflink(vms, rootfs)).works;
  return canShare ? 'reflink' : 'copy';
}
