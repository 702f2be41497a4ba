import { availableParallelism, totalmem } from 'node:os';
import { BangerError } from '../../errors.ts';
import { maxFirecrackerCpus } from '../../host/drivers/firecracker/machine.ts';
import type { Config } from '../../state/config.ts';
import { formatBytes } from '../../state/units.ts';
import { maxFilesystemBytes } from '../images/ext4/format.ts';

const mib = 1024 ** 2;
const minMemoryMib = 128;
/** Below this a default would not be worth having. */
const defaultFloorMib = 512;
const defaultCeilingMib = 8192;

/** The host's size, passed in so that the rules can be tested. */
export interface HostSize {
  readonly cpus: number;
  readonly memoryBytes: number;
}

export function hostSize(): HostSize {
  return { cpus: availableParallelism(), memoryBytes: totalmem() };
}

export interface VmSize {
  readonly cpus: number;
  readonly memoryMib: number;
  readonly diskBytes: number;
}

/**
 * The size of a new VM: what was asked for, else the configuration, else a share of the host (a quarter of the
 * processors, at most 4; an eighth of the memory, at most 8 GiB). Throws `invalid_argument` on what cannot work.
 */
export function planVmSize(asked: Partial<VmSize>, config: Config, host: HostSize): VmSize {
  const hostMib = Math.floor(host.memoryBytes / mib);
  const defaultMib = Math.max(defaultFloorMib, Math.min(Math.floor(hostMib / 8), defaultCeilingMib));
  const memoryMib =
    asked.memoryMib ?? (config.memoryBytes ? Math.floor(config.memoryBytes / mib) : defaultMib);
  const cpus = asked.cpus ?? config.cpus ?? Math.max(1, Math.min(Math.floor(host.cpus / 4), 4));
  const maxCpus = Math.max(8, host.cpus * 2);
  if (cpus > maxCpus) {
    throw new BangerError(
      'invalid_argument',
      `${cpus} CPUs are too many: this host has ${host.cpus}, and a VM may have ${maxCpus}`,
      { hint: `Ask for as many as the host has: --cpus ${host.cpus}` },
    );
  }
  if (cpus > maxFirecrackerCpus && config.vmmDriver === 'firecracker') {
    throw new BangerError(
      'invalid_argument',
      `Firecracker, on which the configuration insists, gives a VM ${maxFirecrackerCpus} CPUs at most, not ${cpus}`,
      {
        hint: `Ask for that many (--cpus ${maxFirecrackerCpus}), or let QEMU run this VM: set driver = "auto" under [vmm] in the configuration`,
      },
    );
  }
  if (memoryMib > hostMib) {
    throw new BangerError(
      'invalid_argument',
      `${formatBytes(memoryMib * mib)} of memory is too much: this host has ${formatBytes(host.memoryBytes)}`,
      { hint: `Ask for less, such as: --memory ${defaultMib}M` },
    );
  }
  if (memoryMib < minMemoryMib) {
    throw new BangerError(
      'invalid_argument',
      `${memoryMib} MiB of memory is too little: a guest needs ${minMemoryMib} MiB to boot`,
      {
        hint: `Ask for more, such as: --memory ${defaultFloorMib}M`,
      },
    );
  }
  const diskBytes = asked.diskBytes ?? config.diskBytes;
  if (diskBytes > maxFilesystemBytes) {
    throw new BangerError(
      'invalid_argument',
      `A disk of ${formatBytes(diskBytes)} is too large: the filesystem of a VM grows up to ${formatBytes(maxFilesystemBytes)}`,
      { hint: 'Ask for less, such as: --disk 1T' },
    );
  }
  return { cpus, memoryMib, diskBytes };
}
