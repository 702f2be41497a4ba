/** A release of Firecracker. */
export interface FirecrackerVersion {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

/**
 * The first that tells a guest of its disk and card by ACPI, and the newest whose interface we know. Those before
 * tell it by words on the kernel's command line, which Debian's kernels are not built to read
 * (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES): a guest would boot there, and find no disk.
 */
const oldest = { major: 1, minor: 8 };
const newestKnown = { major: 1, minor: 17 };

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
  const { major, minor } = version;
  const isTooOld = major < oldest.major || (major === oldest.major && minor < oldest.minor);
  return isTooOld
    ? `Firecracker ${versionText(version)} is older than ${oldest.major}.${oldest.minor}: guests find no disk on it`
    : undefined;
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
