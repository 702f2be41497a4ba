import type { Acceleration } from '../../../src/host/drivers/driver.ts';
import { QmpClient } from '../../../src/host/qmp.ts';

/** What QEMU calls them; on KVM the kernel may have those of the processor board, which get another name then. */
const pcDevices = [
  ...['ioapic', 'kvm-ioapic', 'isa-i8259', 'kvm-i8259', 'isa-pit', 'kvm-pit', 'mc146818rtc'],
  ...['isa-serial', 'fw_cfg_io', 'kvmvapic', 'kvmclock'],
  ...['virtio-blk-device', 'virtio-net-device', 'virtio-rng-device'],
];
const q35 = [
  ...['q35-pcihost', 'mch', 'ICH9-LPC', 'i8257', 'hpet', 'isa-pcspk'],
  ...['virtio-blk-pci', 'virtio-net-pci', 'virtio-rng-pci'],
];
const microvm = ['virtio-mmio', 'isabus-bridge', 'acpi-ged-x86', 'acpi-ged'];

/** Kinds of devices that a QEMU's machine may have. */
export function qemuDevices(acceleration: Acceleration): readonly string[] {
  return [...pcDevices, ...(acceleration === 'tcg' ? q35 : microvm)];
}

/** Those that it has, one of each. Nobody else may be connected to it. */
export async function foundDevices(controlSocket: string): Promise<readonly string[]> {
  const qmp = await QmpClient.connect(controlSocket);
  try {
    const tree = await qmp.execute('human-monitor-command', { 'command-line': 'info qtree' });
    return [...String(tree).matchAll(/dev: ([^,\r\n]+)/g)].map(([, kind]) => kind!);
  } finally {
    qmp.close();
  }
}
