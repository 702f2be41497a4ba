import { expect, test } from 'vitest';
import { loopbackForward, type VmmSpec } from '../../../src/host/drivers/driver.ts';
import { qemuArguments } from '../../../src/host/drivers/qemu.ts';

const spec: VmmSpec = {
  id: 'abc',
  cpus: 2,
  memoryMib: 512,
  kernel: '/k',
  initrd: '/i',
  disk: '/vms/a,b/disk.qcow2',
  consoleLog: '/c',
  vmmLog: '/v',
  controlSocket: '/s',
  forwards: [loopbackForward(4000, 1022)],
  acceleration: 'tcg',
};

const valueOf = (argv: readonly string[], option: string) => argv[argv.indexOf(option) + 1];

test('an emulated guest gets a q35 machine with PCI devices, which has clocks to calibrate against', () => {
  const argv = qemuArguments(spec);
  expect(valueOf(argv, '-M')).toBe('q35,dump-guest-core=off');
  expect(valueOf(argv, '-accel')).toBe('tcg,thread=multi');
  expect(argv).toContain('virtio-blk-pci,drive=root,werror=stop,rerror=report');
});

test('a guest on KVM gets a microvm with MMIO devices', () => {
  const argv = qemuArguments({ ...spec, acceleration: 'kvm' });
  expect(valueOf(argv, '-M')).toBe('microvm,dump-guest-core=off');
  expect(argv).toContain('virtio-blk-device,drive=root,werror=stop,rerror=report');
  expect(argv).toContain('virtio-net-device,netdev=net');
});

test('published ports listen on the loopback only', () => {
  expect(valueOf(qemuArguments(spec), '-netdev')).toBe('user,id=net,hostfwd=tcp:127.0.0.1:4000-:1022');
});

test('a comma in a path does not start a new option', () => {
  expect(valueOf(qemuArguments(spec), '-drive')).toContain('file=/vms/a,,b/disk.qcow2');
});

test('the disk is written back through the host cache, never carelessly', () => {
  expect(valueOf(qemuArguments(spec), '-drive')).toContain('cache=writeback');
});

test('the VM is named on the command line, so that a lost VMM can be found', () => {
  expect(valueOf(qemuArguments(spec), '-name')).toBe('banger-abc');
});
