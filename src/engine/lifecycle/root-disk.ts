import { chmod, mkdir, rm } from 'node:fs/promises';
import { BangerError } from '../../errors.ts';
import {
  standsOnImage,
  type DiskFormat,
  type DiskMethod,
  type RootDisk,
} from '../../host/disks/disk-method.ts';
import { diskMethod } from '../../host/disks/methods.ts';
import { checkSpace } from '../../host/disks/space.ts';
import { getImage } from '../../state/images.ts';
import { vmPaths } from '../../state/layout.ts';
import { formatBytes } from '../../state/units.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { rootfsFile, rootfsPlace } from '../images/rootfs-file.ts';
import { giveBackRoomLater } from './give-back-room.ts';
import type { Capability } from './capabilities.ts';

type WithDisk = Pick<Vm, 'id' | 'imageId' | 'diskBytes' | 'diskMethod'>;

/** The root disk: the image's filesystem, of which a VM sees a copy of its own. */
export const rootDisk: Capability = {
  name: 'disk',
  async preflight(context, vm) {
    const image = getImage(context.db, vm.imageId);
    await checkSpace(await vmsPlace(context));
    if (vm.diskBytes < image.sizeBytes) {
      throw new BangerError(
        'invalid_argument',
        `A disk of ${formatBytes(vm.diskBytes)} is too small for the image's filesystem of ${formatBytes(image.sizeBytes)}`,
        {
          hint: `Ask for at least that${vm.diskMethod === 'dm-snapshot' ? '' : ' (it takes no space until it is used)'}: --disk ${Math.ceil(image.sizeBytes / 1024 ** 3)}G`,
        },
      );
    }
    await requireMethod(context, vm);
  },
  async prepareHost(context, vm, operation) {
    const disk = { ...describeDisk(context, vm), backing: await wholeImage(context, vm) };
    await methodOf(context, vm).create(disk, {
      signal: operation.signal,
      onProgress: (done, total) => operation.progress({ done, total, unit: 'bytes' }),
    });
    await chmod(disk.path, 0o600);
  },
  async configureGuest(context, vm) {
    const method = methodOf(context, vm);
    if (standsOnImage(vm.diskMethod)) await wholeImage(context, vm);
    const disk = describeDisk(context, vm);
    // A `set` that was cut short may have recorded more than it made.
    await method.grow(disk);
    const path = await method.attach(disk);
    // Made again, an image that no disk stands on may be larger than this one's: what is grown does not grow again.
    return {
      disk: { path, format: method.format, bytesPerSecond: context.config().diskBytesPerSecond },
      conf: { ROOT_DEVICE: '/dev/vda', GROW: vm.diskBytes === disk.imageBytes ? '' : '1' },
    };
  },
  async afterStop(context, vm) {
    const path = diskFile(context, vm);
    await methodOf(context, vm).detach({ id: vm.id, path });
    giveBackRoomLater(context, vm, path);
  },
  async cleanUp(context, vm) {
    const path = diskFile(context, vm);
    await methodOf(context, vm).detach({ id: vm.id, path });
    await rm(path, { force: true });
  },
};

/** Where disks are made, which is there afterwards: it may be a filesystem of its own, or a link to one. */
export async function vmsPlace({ layout }: Pick<EngineContext, 'layout'>): Promise<string> {
  await mkdir(layout.vmsDirectory, { recursive: true, mode: 0o700 });
  return layout.vmsDirectory;
}

/** What of a VM's root disk is its own. */
export function diskFile(context: Pick<EngineContext, 'layout'>, vm: Pick<Vm, 'id' | 'diskMethod'>): string {
  return vmPaths(context.layout, vm.id).disk(vm.diskMethod);
}

/** How a VMM has to read a VM's root disk. */
export function diskFormat(context: EngineContext, vm: Pick<Vm, 'diskMethod'>): DiskFormat {
  return methodOf(context, vm).format;
}

/** Whether a guest that runs sees its disk grow, or at its next start. */
export function growsLive(context: EngineContext, vm: Pick<Vm, 'diskMethod'>): boolean {
  return methodOf(context, vm).growsLive;
}

/** Makes the disk of a VM that does not run as large as its row says; it had `hadBytes`. */
export async function growStoppedDisk(context: EngineContext, vm: WithDisk, hadBytes: number): Promise<void> {
  await methodOf(context, vm).grow({ ...describeDisk(context, vm), hadBytes });
}

function methodOf(
  context: Pick<EngineContext, 'exec'>,
  { diskMethod: name }: Pick<Vm, 'diskMethod'>,
): DiskMethod {
  return diskMethod(context.exec, name);
}

function describeDisk(context: EngineContext, vm: WithDisk): RootDisk {
  const image = getImage(context.db, vm.imageId);
  return {
    id: vm.id,
    path: diskFile(context, vm),
    backing: rootfsPlace(context, image),
    imageBytes: image.sizeBytes,
    sizeBytes: vm.diskBytes,
  };
}

/** The image's filesystem, which is as it was when it became an image. */
function wholeImage(context: EngineContext, { imageId }: Pick<Vm, 'imageId'>): Promise<string> {
  return rootfsFile(context, getImage(context.db, imageId));
}

/** What the configuration insists on is tried before anything is made. */
async function requireMethod(
  context: EngineContext,
  { diskMethod: name }: Pick<Vm, 'diskMethod'>,
): Promise<void> {
  const directory = await vmsPlace(context);
  const verdict =
    name === 'reflink'
      ? await context.diskProbes.reflink(directory)
      : name === 'dm-snapshot'
        ? await context.diskProbes.dmSnapshot(directory)
        : undefined;
  if (!verdict || verdict.works) return;
  throw new BangerError(
    'host_unsupported',
    `Disks cannot be made by ${name} at "${directory}": ${verdict.reason}`,
    { hint: 'Let banger choose: set method = "auto" under [disk] in the configuration' },
  );
}
