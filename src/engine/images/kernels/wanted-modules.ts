/** When `guest/init` loads a module. The order of this list is the order of loading. */
export const loadTimes = ['base', 'pci', 'mmio', 'disk', 'network', 'init', 'late'] as const;
export type LoadTime = (typeof loadTimes)[number];

/** A part of the kernel that guests use, as a module or built in. */
export interface WantedModule {
  /** With underscores */
  readonly name: string;
  readonly when: LoadTime;
  /** What a guest cannot do without it; absent: nobody misses it where it is neither */
  readonly without?: string;
  /** The guest does not boot without it */
  readonly isRequired?: boolean;
  /** Option that builds it in */
  readonly option: string;
  /** Text that a kernel has in it if this is built in */
  readonly trace?: string;
}

/**
 * What the guest's init loads, in this order. `scripts/guest/kernel.sh` has the same list for the embedded kernel, and
 * a test compares the archives.
 */
export const wantedModules: readonly WantedModule[] = [
  { name: 'virtio_ring', option: 'CONFIG_VIRTIO', when: 'base', isRequired: true },
  { name: 'virtio', option: 'CONFIG_VIRTIO', when: 'base', isRequired: true },
  { name: 'virtio_pci', option: 'CONFIG_VIRTIO_PCI', when: 'pci', isRequired: true, trace: 'virtio-pci' },
  {
    name: 'virtio_mmio',
    option: 'CONFIG_VIRTIO_MMIO',
    when: 'mmio',
    without: 'boot on KVM, where there is no PCI',
    trace: 'virtio-mmio',
  },
  { name: 'virtio_blk', option: 'CONFIG_VIRTIO_BLK', when: 'disk', isRequired: true, trace: 'virtio_blk' },
  // Asked for by name when a filesystem with checksums is mounted; nobody in the guest could load it then.
  { name: 'crc32c_generic', option: 'CONFIG_CRYPTO_CRC32C', when: 'disk' },
  { name: 'ext4', option: 'CONFIG_EXT4_FS', when: 'disk', isRequired: true, trace: 'ext4' },
  { name: 'virtio_net', option: 'CONFIG_VIRTIO_NET', when: 'network', isRequired: true, trace: 'virtio_net' },
  { name: 'autofs4', option: 'CONFIG_AUTOFS_FS', when: 'init' },
  { name: 'virtio_rng', option: 'CONFIG_HW_RANDOM_VIRTIO', when: 'late' },
  { name: 'overlay', option: 'CONFIG_OVERLAY_FS', when: 'late', without: 'run containers on overlayfs' },
  { name: 'vmw_vsock_virtio_transport', option: 'CONFIG_VIRTIO_VSOCKETS', when: 'late' },
];
