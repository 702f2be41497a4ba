import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import { exec } from '../../src/host/exec.ts';
import {
  cachedKvmProbe,
  deviceRefusal,
  probedQemu,
  probeKvm,
  rememberedVerdict,
  type KvmProbeInput,
} from '../../src/host/kvm-probe.ts';
import { identifyProcess } from '../../src/host/process.ts';
import { writeFakeQemu } from './doctor/fake-qemu.ts';

/** A file that even root may not write to: the kernel refuses it whatever the capabilities. */
const closedFile = '/proc/sys/kernel/random/boot_id';

let root: string;
let temporary: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  temporary = join(root, 'temporary');
  mkdirSync(temporary);
  writeFileSync(join(root, 'kvm'), '');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function input(
  behaviour: 'works' | 'hangs' | 'stalls' | 'sleeps' | 'fails',
  device = join(root, 'kvm'),
): KvmProbeInput {
  return {
    exec,
    vmm: probedQemu(writeFakeQemu(root, behaviour)),
    guestId: 'guest',
    // A busy host takes its time to start even a fake.
    timeoutMs: ['works', 'fails'].includes(behaviour) ? 60_000 : undefined,
    kernel: async () => '/kernel',
    initrd: async () => '/initrd',
    temporaryDirectory: temporary,
    device,
  };
}

function expectNothingLeft(behaviour: string): void {
  expect(readdirSync(temporary)).toEqual([]);
  const pid = Number(readFileSync(join(root, `qemu-${behaviour}.pid`), 'utf8'));
  expect(identifyProcess(pid)).toBeUndefined();
}

test('without a device nothing is unpacked or started', async () => {
  const device = join(root, 'missing');
  const unpack = (): Promise<string> => Promise.reject(new Error('unpacked'));
  const verdict = await probeKvm({ ...input('works', device), kernel: unpack, initrd: unpack });
  expect(verdict).toEqual({ works: false, reason: `${device} does not exist` });
});

test('a device that is closed to us is not tried', async () => {
  expect(await probeKvm(input('works', closedFile))).toEqual({
    works: false,
    reason: `${closedFile} may not be opened by you`,
  });
});

test.each([
  ['EPERM', 'may not be opened here, as the rules of a container have it (EPERM)'],
  ['ENODEV', 'is there, but has no driver (ENODEV)'],
  ['ENXIO', 'is there, but has no driver (ENXIO)'],
  ['EBUSY', 'cannot be opened (EBUSY)'],
])('a device whose opening gives %s is told as that', (code, words) => {
  const open = (): never => {
    throw Object.assign(new Error(code), { code });
  };
  expect(deviceRefusal('/dev/kvm', open)).toEqual({ works: false, reason: `/dev/kvm ${words}` });
});

test('a name of a device that has no driver is not tried', async (context) => {
  const device = join(root, 'static');
  if (spawnSync('mknod', [device, 'c', '10', '254']).status !== 0) return context.skip('needs root');
  expect(
    await probeKvm({ ...input('works', device), kernel: () => Promise.reject(new Error('unpacked')) }),
  ).toMatchObject({
    works: false,
    reason: expect.stringMatching(/has no driver|rules of a container/) as string,
  });
});

test('KVM works when a guest says so', async () => {
  expect(await probeKvm(input('works'))).toEqual({ works: true, reason: 'a guest booted on it' });
});

test.each([
  ['a guest that says nothing', 'hangs'],
  ['a QEMU that does not answer on its control socket', 'stalls'],
  ['a QEMU that never opens one', 'sleeps'],
] as const)(
  '%s is not waited for longer than 3 s, and means that KVM does not work',
  async (_, behaviour) => {
    expect(await probeKvm(input(behaviour))).toEqual({
      works: false,
      reason: 'opens, but a guest did not boot on it within 3 s',
    });
    expectNothingLeft(behaviour);
  },
);

test('a VMM that ends at once gives the reason', async () => {
  expect(await probeKvm(input('fails'))).toEqual({
    works: false,
    reason: 'opens, but QEMU cannot use it: qemu: could not enable KVM',
  });
});

test('a QEMU that is not there is a verdict, not a crash', async () => {
  const verdict = await probeKvm({ ...input('works'), vmm: probedQemu('/nonexistent/qemu') });
  expect(verdict).toEqual({ works: false, reason: '"/nonexistent/qemu" is not installed or not in PATH' });
});

test.each(['works', 'fails'] as const)('a probe that %s leaves no file and no process', async (behaviour) => {
  await probeKvm(input(behaviour));
  expectNothingLeft(behaviour);
});

test('the outcome of a boot is remembered for this QEMU', async () => {
  const cache = join(root, 'cache.json');
  await cachedKvmProbe(input('works'), cache);
  const fails = input('fails');
  expect(await cachedKvmProbe(fails, cache)).toEqual({ works: true, reason: 'a guest booted on it' });
  expect((await rememberedVerdict(fails, cache))?.works).toBe(true);

  const other: KvmProbeInput['exec'] = async () => ({
    exitCode: 0,
    stdout: Buffer.from('QEMU emulator version 9.0.0\n'),
    stderr: '',
  });
  expect(await rememberedVerdict({ ...fails, exec: other }, cache)).toBeUndefined();
});

test('the outcome of a boot holds until the host boots again', async () => {
  const cache = join(root, 'cache.json');
  await cachedKvmProbe(input('works'), cache);
  const written = readFileSync(cache, 'utf8');
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  expect(written).toContain(bootId);
  writeFileSync(cache, written.replace(bootId, bootId.replaceAll(/[0-9a-f]/g, '0')));
  const fails = input('fails');
  expect(await rememberedVerdict(fails, cache)).toBeUndefined();
  expect((await cachedKvmProbe(fails, cache)).works).toBe(false);
});

test('what kept a boot from being tried is not remembered as its outcome', async () => {
  const cache = join(root, 'cache.json');
  const kernel = (): Promise<string> =>
    Promise.reject(new BangerError('host_unsupported', 'The disk is full'));
  const verdict = await cachedKvmProbe({ ...input('works'), kernel }, cache);
  expect(verdict).toEqual({ works: false, reason: 'The disk is full' });
  expect((await cachedKvmProbe(input('works'), cache)).works).toBe(true);
});

test('a closed device is not remembered: joining its group helps at once', async () => {
  const cache = join(root, 'cache.json');
  expect((await cachedKvmProbe(input('works', closedFile), cache)).works).toBe(false);
  expect(existsSync(cache)).toBe(false);
  expect((await cachedKvmProbe(input('works'), cache)).works).toBe(true);
});

test('a device that has gone since is noticed', async () => {
  const cache = join(root, 'cache.json');
  await cachedKvmProbe(input('works'), cache);
  expect((await cachedKvmProbe(input('works', join(root, 'missing')), cache)).works).toBe(false);
});
