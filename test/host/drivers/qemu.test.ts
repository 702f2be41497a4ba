import { expect, test } from 'vitest';
import { loopbackForward, type VmmSpec } from '../../../src/host/drivers/driver.ts';
import { qemuArguments as argumentsFor } from '../../../src/host/drivers/qemu.ts';
import type { QemuBuild } from '../../../src/host/drivers/qemu-confinement.ts';

const spec: VmmSpec = {
  id: 'abc',
  cpus: 2,
  memoryMib: 512,
  kernel: '/k',
  initrd: '/i',
  disk: { path: '/vms/a,b/disk.qcow2', format: 'qcow2' },
  consoleLog: '/c',
  vmmLog: '/v',
  controlSocket: '/s',
  network: { user: { forwards: [loopbackForward(4000, 1022)], reach: 'all' } },
  acceleration: 'tcg',
};

const build: QemuBuild = { major: 7, minor: 2, hasSandbox: true, mayChangeRoot: true };
const qemuArguments = (machine: VmmSpec) => argumentsFor(machine, build);
const valueOf = (argv: readonly string[], option: string) => argv[argv.indexOf(option) + 1];

test('an emulated guest gets a q35 machine with PCI devices, which has clocks to calibrate against', () => {
  const argv = qemuArguments(spec);
  expect(valueOf(argv, '-M')).toMatch(/^q35,dump-guest-core=off,/);
  expect(valueOf(argv, '-accel')).toBe('tcg,thread=multi');
  expect(argv).toContain('virtio-blk-pci,drive=root,werror=stop,rerror=report');
});

test('a guest on KVM gets a microvm with MMIO devices', () => {
  const argv = qemuArguments({ ...spec, acceleration: 'kvm' });
  expect(valueOf(argv, '-M')).toBe('microvm,dump-guest-core=off');
  expect(argv).toContain('virtio-blk-device,drive=root,werror=stop,rerror=report');
  expect(argv).toContain('virtio-net-device,netdev=card');
});

test('a guest on KVM does not wait for a clock chip, which its machine has not', () => {
  const words = 'initcall_blacklist=cmos_init';
  expect(valueOf(qemuArguments({ ...spec, acceleration: 'kvm' }), '-append')).toContain(words);
  expect(valueOf(qemuArguments(spec), '-append')).not.toContain(words);
});

test('published ports listen on the loopback only', () => {
  expect(valueOf(qemuArguments(spec), '-netdev')).toBe('user,id=net,hostfwd=tcp:127.0.0.1:4000-:1022');
});

test('a comma in a path does not start a new option', () => {
  expect(valueOf(qemuArguments(spec), '-drive')).toContain('file=/vms/a,,b/disk.qcow2');
});

test('a disk is read as what it is, never by guessing from what a guest has written', () => {
  const drive = (format: 'raw' | 'qcow2') =>
    valueOf(qemuArguments({ ...spec, disk: { path: '/dev/mapper/d', format } }), '-drive');
  expect(drive('raw')).toMatch(/(^|,)format=raw,/);
  expect(drive('qcow2')).toMatch(/(^|,)format=qcow2,/);
  expect(drive('raw')).not.toContain('throttling');
  const disk = { path: '/d', format: 'raw' as const, bytesPerSecond: 1_048_576 };
  expect(valueOf(qemuArguments({ ...spec, disk }), '-drive')).toContain(',throttling.bps-total=1048576,');
});

test('what a guest discards, or fills with zeros, is given back to the host', () => {
  expect(valueOf(qemuArguments(spec), '-drive')).toContain('discard=unmap,detect-zeroes=unmap');
});

test('the disk is written back through the host cache, never carelessly', () => {
  expect(valueOf(qemuArguments(spec), '-drive')).toContain('cache=writeback');
});

test('an emulated machine has none of the devices of a PC that no guest of ours uses', () => {
  expect(valueOf(qemuArguments(spec), '-M')).toBe(
    'q35,dump-guest-core=off,sata=off,smbus=off,vmport=off,usb=off,graphics=off,i8042=off',
  );
  // Older ones do not know that they could do without a keyboard.
  expect(valueOf(argumentsFor(spec, { ...build, major: 6 }), '-M')).not.toContain('i8042');
});

test.each([
  [
    'tcg',
    [
      'virtio-blk-pci,drive=root,werror=stop,rerror=report',
      'virtio-net-pci,netdev=card,romfile=',
      'virtio-rng-pci',
    ],
  ],
  [
    'kvm',
    [
      'virtio-blk-device,drive=root,werror=stop,rerror=report',
      'virtio-net-device,netdev=card',
      'virtio-rng-device',
    ],
  ],
] as const)(
  'a guest by %s has a disk, a card, randomness and a console, and no other device',
  (acceleration, devices) => {
    const argv = qemuArguments({ ...spec, acceleration });
    expect(argv.filter((_, index) => argv[index - 1] === '-device')).toEqual(devices);
    // Neither what QEMU adds by itself, nor what a file of the host's adds.
    expect(argv).toContain('-nodefaults');
    expect(argv).toContain('-no-user-config');
    expect(argv.filter((word) => word === '-serial')).toHaveLength(1);
    const others = [
      '-usb',
      '-usbdevice',
      '-vga',
      '-cdrom',
      '-hda',
      '-sdl',
      '-vnc',
      '-spice',
      '-nic',
      '-net',
      '-soundhw',
    ];
    expect(argv.filter((word) => others.includes(word))).toEqual([]);
    expect(argv.filter((word) => word === '-drive')).toHaveLength(1);
  },
);

test('a guest with neither disk nor network has no device for them', () => {
  const argv = qemuArguments({ ...spec, disk: undefined, network: {} });
  expect(argv.filter((_, index) => argv[index - 1] === '-device')).toEqual(['virtio-rng-pci']);
  expect(argv).not.toContain('-drive');
  expect(argv).not.toContain('-netdev');
});
