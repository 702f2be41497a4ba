/** A release of Firecracker. */
export interface FirecrackerVersion {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

/** The oldest and the newest whose interface we know. */
const oldest = { major: 1, minor: 7 };
const newestKnown = { major: 1, minor: 17 };
/** The first that tells a guest of its disk and card by ACPI: those before put words on the kernel's command line. */
const firstWithAcpi = { major: 1, minor: 8 };

/** The kernel of a guest, as far as it depends on it whether a release is fit. */
export interface GuestKernel {
  readonly name: string;
  /** It is built to find devices by words on its command line; absent: nobody has looked */
  readonly readsDeviceWords?: boolean;
}

/** Debian's are not built for that. */
export const embeddedKernel: GuestKernel = { name: 'embedded', readsDeviceWords: false };

/** Parses `1.14.1`, and what `firecracker --version` prints; undefined for anything else. */
export function parseFirecrackerVersion(text: string): FirecrackerVersion | undefined {
  const found = /^(?:Firecracker )?v?(\d+)\.(\d+)\.(\d+)\b/.exec(text.trim());
  if (!found) return undefined;
  const [major, minor, patch] = found.slice(1).map(Number) as [number, number, number];
  return { major, minor, patch };
}

export function versionText({ major, minor, patch }: FirecrackerVersion): string {
  return `${major}.${minor}.${patch}`;
}

/** Why no VM can be run by a release, in one phrase; undefined for one that is fit. */
export function versionRefusal(version: FirecrackerVersion): string | undefined {
  if (!isBefore(version, oldest)) return undefined;
  return `Firecracker ${versionText(version)} is older than ${oldest.major}.${oldest.minor}, the oldest that banger knows`;
}

/** Why guests with a kernel would find no disk on a release, in one phrase; undefined where they do. */
export function kernelRefusal(
  version: FirecrackerVersion,
  { name, readsDeviceWords }: GuestKernel,
): string | undefined {
  if (!isBefore(version, firstWithAcpi) || readsDeviceWords === true) return undefined;
  const reads =
    readsDeviceWords === undefined
      ? 'is not known to read, having been imported by an older banger'
      : 'does not read';
  return (
    `Firecracker ${versionText(version)} tells guests of their disks by words on the command line only, ` +
    `which kernel "${name}" ${reads} (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES)`
  );
}

function isBefore(version: FirecrackerVersion, { major, minor }: Omit<FirecrackerVersion, 'patch'>): boolean {
  return version.major < major || (version.major === major && version.minor < minor);
}

/**
 * Why a VM with vsock cannot be run by a release; undefined where nothing is known against it.
 *
 * In both releases new connections from the host into the guest hang for ever after a pause
 * (https://github.com/firecracker-microvm/firecracker/pull/6100).
 */
export function vsockRefusal({ major, minor, patch }: FirecrackerVersion): string | undefined {
  const isBad = major === 1 && minor === 16 && patch <= 1;
  if (!isBad) return undefined;
  return `in Firecracker ${major}.${minor}.${patch}, connections into a guest over vsock hang once it was paused`;
}

/** True for a release that came after this was written: nobody has tried it with us. */
export function isUntried({ major, minor }: FirecrackerVersion): boolean {
  return major > newestKnown.major || (major === newestKnown.major && minor > newestKnown.minor);
}
