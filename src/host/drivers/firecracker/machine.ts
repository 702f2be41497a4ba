import { BangerError } from '../../../errors.ts';
import type { TapNetwork, VmmDisk, VmmSpec } from '../driver.ts';
import { kernelCommandLine, noClockChip } from '../kernel-words.ts';
import type { ApiRequest } from './api.ts';
import { vsockRefusal, type FirecrackerVersion } from './version.ts';

/** What Firecracker can do for a VM beyond what every VMM can. */
export interface FirecrackerSpec extends VmmSpec {
  /** Absent: no way in but the network */
  readonly vsock?: { readonly cid: number; readonly socket: string };
  /** Gives memory that the guest does not use back to the host, if the guest has the driver */
  readonly hasBalloon?: boolean;
  /** Absent: none are kept */
  readonly metricsFile?: string;
}

/** How the root disk is named in requests. */
export const rootDriveId = 'root';
/** Of one VM. */
export const maxFirecrackerCpus = 32;
/** Longest address of a Unix socket on Linux, without its terminating zero. */
const maxSocketBytes = 107;
/** What Firecracker adds to a vsock's path for a guest's connection: `_` and the longest port. */
const portSuffixBytes = 11;

/** Refuses what Firecracker cannot be asked for, before anything is started. Throws `host_unsupported`. */
export function checkMachine(spec: FirecrackerSpec): void {
  if (spec.acceleration !== 'kvm') {
    throw new BangerError('host_unsupported', 'Firecracker runs guests by KVM only, not by emulation', {
      hint: 'Let another VMM do it: set driver = "auto" under [vmm] in the configuration',
    });
  }
  if (spec.cpus > maxFirecrackerCpus) {
    throw new BangerError(
      'host_unsupported',
      `Firecracker gives a VM ${maxFirecrackerCpus} CPUs at most, not ${spec.cpus}`,
      { hint: `Ask for less: banger vm set --cpus ${maxFirecrackerCpus} …` },
    );
  }
  if (spec.disk && spec.disk.format !== 'raw') {
    throw new BangerError(
      'host_unsupported',
      `Firecracker cannot read a disk in the format "${spec.disk.format}", which this VM was made with`,
      { hint: 'Make a new VM for it, or let QEMU run this one: set driver = "auto" under [vmm]' },
    );
  }
  checkSocket(spec.controlSocket, 0);
  if (spec.vsock) checkSocket(spec.vsock.socket, portSuffixBytes);
}

function checkSocket(path: string, suffixBytes: number): void {
  const bytes = Buffer.byteLength(path) + suffixBytes;
  if (bytes <= maxSocketBytes) return;
  throw new BangerError(
    'host_unsupported',
    `The path of a socket may have ${maxSocketBytes} bytes, and "${path}" needs ${bytes}`,
    { hint: 'Choose a shorter place: BANGER_HOME=DIR banger …' },
  );
}

/** Every request that makes the VM, in order, up to its start. Throws `host_unsupported` for what a release gets wrong. */
export function planMachine(spec: FirecrackerSpec, version: FirecrackerVersion): readonly ApiRequest[] {
  const put = (path: string, body: ApiRequest['body']): ApiRequest => ({ method: 'PUT', path, body });
  const { vsock } = spec;
  const { tap } = spec.network;
  const trouble = vsock && vsockRefusal(version);
  if (trouble) {
    throw new BangerError('host_unsupported', `This VM needs vsock, and ${trouble}`, {
      hint: 'Install another release of Firecracker, such as 1.15, and see: banger doctor',
    });
  }
  return [
    ...(spec.metricsFile ? [put('/metrics', { metrics_path: spec.metricsFile })] : []),
    put('/machine-config', { vcpu_count: spec.cpus, mem_size_mib: spec.memoryMib }),
    put('/boot-source', {
      kernel_image_path: spec.kernel,
      initrd_path: spec.initrd,
      boot_args: kernelCommandLine(machineWords, spec.kernelWords),
    }),
    ...(spec.disk ? [put(`/drives/${rootDriveId}`, rootDrive(spec.disk))] : []),
    ...(tap ? [put('/network-interfaces/net', networkInterface(tap))] : []),
    ...(vsock ? [put('/vsock', { guest_cid: vsock.cid, uds_path: vsock.socket })] : []),
    put('/entropy', {}),
    ...(spec.hasBalloon ? [put('/balloon', { amount_mib: 0, deflate_on_oom: true })] : []),
    put('/actions', { action_type: 'InstanceStart' }),
  ];
}

const machineWords = [
  // A reset through the keyboard controller is the one end of a guest that Firecracker notices.
  'reboot=k',
  // There is a keyboard for Ctrl-Alt-Del only, and nothing to search for.
  'i8042.noaux',
  'i8042.nomux',
  'i8042.dumbkbd',
  noClockChip,
];

function rootDrive({ path, bytesPerSecond }: VmmDisk): ApiRequest['body'] {
  return {
    drive_id: rootDriveId,
    path_on_host: path,
    // Its own `root=` would come between the kernel and our initramfs.
    is_root_device: false,
    is_read_only: false,
    // Without it a guest's flush is answered and not done.
    cache_type: 'Writeback',
    // A bucket of a second's worth: a burst of that size passes at once.
    ...(bytesPerSecond !== undefined && {
      rate_limiter: { bandwidth: { size: bytesPerSecond, refill_time: 1000 } },
    }),
  };
}

function networkInterface({ tap, mac }: TapNetwork): ApiRequest['body'] {
  return {
    iface_id: 'net',
    host_dev_name: tap,
    guest_mac: mac,
  };
}
