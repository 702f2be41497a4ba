import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import { rootlessRefusal } from '../../src/host/drivers/firecracker/namespace.ts';
import { exec, type Exec } from '../../src/host/exec.ts';
import { commandLine, findProcessesByArguments } from '../../src/host/process.ts';
import {
  cachedKvmProbe,
  probedFirecracker,
  type KvmProbeInput,
  type KvmVerdict,
} from '../../src/host/kvm-probe.ts';
import {
  chooseVmm,
  firecrackerVerdict,
  type FirecrackerInput,
  type FirecrackerVerdict,
  type VmmWish,
} from '../../src/host/vmm-choice.ts';
import { makeFakeFirecracker, type FakeFirecracker } from '../support/firecracker-program.ts';

const booted = { works: true, reason: 'a guest booted on it' };
const hangs = { works: false, reason: 'opens, but a guest did not boot on it within 3 s' };
const missing: FirecrackerVerdict = {
  works: false,
  reason: '"firecracker" is not installed',
  isInstalled: false,
};
const installed = (verdict: KvmVerdict): FirecrackerVerdict => ({ ...verdict, isInstalled: true });

function choose(wish: Partial<VmmWish>, firecracker: FirecrackerVerdict, qemu: KvmVerdict = booted) {
  const asked: string[] = [];
  const verdicts = {
    firecracker: () => (asked.push('firecracker'), Promise.resolve(firecracker)),
    qemu: () => (asked.push('qemu'), Promise.resolve(qemu)),
  };
  return { choice: chooseVmm({ driver: 'auto', accel: 'auto', ...wish }, verdicts), asked };
}

describe('the choice', () => {
  test('is Firecracker where it is proven, and QEMU is not tried then', async () => {
    const { choice, asked } = choose({}, installed(booted));
    expect(await choice).toEqual({
      driver: 'firecracker',
      acceleration: 'kvm',
      reason: 'KVM: a guest booted on it',
    });
    expect(asked).toEqual(['firecracker']);
  });

  test('is QEMU with KVM where only that is proven, and tells why it is not Firecracker, if there is one', async () => {
    expect(await choose({}, missing).choice).toEqual({
      driver: 'qemu',
      acceleration: 'kvm',
      reason: 'KVM: a guest booted on it',
    });
    expect(await choose({}, installed(hangs)).choice).toMatchObject({
      reason: 'KVM: a guest booted on it; not Firecracker: opens, but a guest did not boot on it within 3 s',
    });
  });

  test('is emulation where nothing boots on KVM, for the reason that the probe gave', async () => {
    expect(await choose({}, installed(hangs), hangs).choice).toEqual({
      driver: 'qemu',
      acceleration: 'tcg',
      reason: 'KVM: opens, but a guest did not boot on it within 3 s',
    });
  });

  test('is what the configuration says, and nothing is tried that it leaves no choice about', async () => {
    const emulated = choose({ accel: 'tcg' }, installed(booted));
    expect(await emulated.choice).toMatchObject({ driver: 'qemu', acceleration: 'tcg' });
    expect(emulated.asked).toEqual([]);
    const qemu = choose({ driver: 'qemu' }, installed(booted));
    expect(await qemu.choice).toMatchObject({ driver: 'qemu', acceleration: 'kvm' });
    expect(qemu.asked).toEqual(['qemu']);
    const unproven = choose({ driver: 'qemu', accel: 'kvm' }, missing, hangs);
    expect(await unproven.choice).toMatchObject({ acceleration: 'kvm', reason: 'as the configuration says' });
    expect(unproven.asked).toEqual([]);
  });

  test('is refused, with the reason, when the configuration insists on a Firecracker that does not work', async () => {
    await expect(choose({ driver: 'firecracker' }, installed(hangs)).choice).rejects.toMatchObject({
      code: 'host_unsupported',
      message:
        'Firecracker, on which the configuration insists, cannot be used: opens, but a guest did not boot on it within 3 s',
    });
    await expect(choose({ driver: 'firecracker', accel: 'tcg' }, installed(booted)).choice).rejects.toThrow(
      'it runs guests by KVM only',
    );
    expect(await choose({ driver: 'firecracker' }, installed(booted)).choice).toMatchObject({
      driver: 'firecracker',
    });
  });
});

const rootless = await rootlessRefusal(exec);

describe('Firecracker', () => {
  let root: string;
  let fake: FakeFirecracker;
  beforeEach(async ({ skip }) => {
    // A guest is booted with a network.
    if (rootless !== undefined) skip(rootless);
    root = mkdtempSync(join(tmpdir(), 'banger-fc-'));
    fake = await makeFakeFirecracker(root);
    for (const name of ['kvm', 'tun', 'kernel', 'initrd']) writeFileSync(join(root, name), '');
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const verdict = (given: Partial<FirecrackerInput & KvmProbeInput> = {}) =>
    firecrackerVerdict({
      exec,
      vmm: probedFirecracker(fake.program, 'never'),
      tunDevice: join(root, 'tun'),
      needs: { network: 'user', disk: 'raw', cpus: 1 },
      isInsistedOn: true,
      jailer: 'never',
      rights: { uid: 1000, status: '', uidMap: '', gidMap: '' },
      probe: (vmm) =>
        cachedKvmProbe(
          {
            exec,
            guestId: 'guest',
            kernel: async () => join(root, 'kernel'),
            initrd: async () => join(root, 'initrd'),
            temporaryDirectory: root,
            device: join(root, 'kvm'),
            // A busy host takes its time to start even a fake.
            timeoutMs: 60_000,
            ...given,
            vmm,
          },
          join(root, 'verdict.json'),
        ),
      ...given,
    });
  const boots = 'banger-probe-ok\n';

  test('works when a guest boots on it, which is remembered for this release and this guest', async () => {
    fake.behave({ console: boots });
    expect(await verdict()).toEqual({ ...booted, isInstalled: true });
    fake.behave({ console: '' });
    expect((await verdict()).works).toBe(true);
    expect((await verdict({ guestId: 'another', timeoutMs: 3_000 })).works).toBe(false);
    fake.behave({ version: '1.15.0' });
    expect(await verdict({ timeoutMs: 3_000 })).toMatchObject(hangs);
  });

  test('does not when KVM opens and its guest hangs', async () => {
    const started = performance.now();
    expect(await verdict({ timeoutMs: undefined })).toMatchObject(hangs);
    const tookMs = performance.now() - started;
    expect(tookMs).toBeGreaterThan(2_900);
    // Far from it only where nobody ended it.
    expect(tookMs).toBeLessThan(60_000);
  });

  test('does not when it stalls before its guest, which is given no more time than a guest, and is ended', async () => {
    fake.behave({ misdeeds: [{ method: 'PUT', path: '/machine-config', does: 'stalls' }] });
    // It would be asked for as long as users wait: the reason tells whose patience was over.
    expect(await verdict({ timeoutMs: 2_000 })).toMatchObject({
      works: false,
      reason: 'opens, but a guest did not boot on it within 2 s',
    });
    expect(fake.changes.map(({ path }) => path)).not.toContain('/actions');
    expect(
      findProcessesByArguments(['--api-sock']).filter((pid) => commandLine(pid)?.join(' ').includes(root)),
    ).toEqual([]);
  });

  test('does not without the device, and without the right to open it, and nothing is started', async () => {
    expect(await verdict({ device: join(root, 'missing') })).toMatchObject({
      reason: `${join(root, 'missing')} does not exist`,
    });
    // A file that even root may not write to.
    const device = '/proc/sys/kernel/random/boot_id';
    expect(await verdict({ device })).toMatchObject({ reason: `${device} may not be opened by you` });
    expect(fake.changes).toEqual([]);
  });

  test('does not when it refuses to start a guest, in its own words', async () => {
    fake.behave({ refusesStart: 'Start microvm error: Cannot create VM: Invalid argument (os error 22)' });
    expect(await verdict()).toMatchObject({
      works: false,
      reason:
        'opens, but Firecracker cannot use it: Firecracker refuses PUT /actions: Start microvm error: Cannot create VM: Invalid argument (os error 22)',
    });
  });

  const all = '         0          0 4294967295';
  const asRoot = { uid: 0, status: 'CapEff:\t000001ffffffffff\n', uidMap: all, gidMap: all };

  test('is not taken by itself where it would be root, and says why it is not jailed', async () => {
    fake.behave({ console: boots });
    expect(await verdict({ isInsistedOn: false, rights: asRoot })).toEqual({
      works: false,
      isInstalled: true,
      reason:
        'it would run as root, if without rights (the configuration forbids its jailer), and is used so only when the configuration insists',
    });
    expect(fake.changes).toEqual([]);
    expect(await verdict({ rights: asRoot })).toMatchObject({
      works: true,
      confinement: 'not jailed: the configuration forbids its jailer',
    });
  });

  test('is not taken without the jail that the configuration asks for', async () => {
    expect(await verdict({ jailer: 'always' })).toMatchObject({
      works: false,
      reason: 'it has to be jailed, as the configuration says, and cannot be: its jailer needs root',
    });
    expect(fake.changes).toEqual([]);
  });

  test.runIf(process.getuid!() === 0)(
    'has to be proven again once it is jailed, and is taken so by root',
    async () => {
      fake.behave({ console: boots });
      expect((await verdict({ rights: asRoot })).works).toBe(true);
      writeFileSync(join(root, 'jailer'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
      const jailed = { isInsistedOn: false, jailer: 'auto', rights: asRoot } as const;
      // What proves it here is not jailed: this is about what is asked for.
      expect(await verdict(jailed)).toMatchObject({
        works: true,
        confinement: 'jailed, each as a user of its own',
      });
      fake.behave({ console: '' });
      expect((await verdict({ ...jailed, timeoutMs: 3_000 })).works).toBe(true);
      expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(2);
    },
  );

  const failing = (words: string): string => `echo '${words}' >&2; exit 1`;
  test.each([
    ['ip', failing('Error: Unknown device type.')],
    ['nft', failing('Error: Could not process rule: Operation not supported')],
    ['slirp4netns', failing('seccomp is not supported')],
  ])('does not where %s is there and does not do its part for a network', async (name, rest) => {
    const programs = join(root, 'programs');
    mkdirSync(programs);
    // All that is asked of them without a namespace is their version.
    const text = `#!/bin/sh\ncase "$1" in -Version|--version) exit 0 ;; esac\n${rest}\n`;
    writeFileSync(join(programs, name), text, { mode: 0o755 });
    vi.stubEnv('PATH', `${programs}:${process.env['PATH']}`);
    onTestFinished(() => void vi.unstubAllEnvs());
    fake.behave({ console: boots });
    const { reason, works } = await verdict();
    expect(works).toBe(false);
    expect(reason).toMatch(/^its network cannot be made here: /);
    expect(reason).toContain(/echo '(.*)'/.exec(rest)![1]!);
    // Found out once, as what a guest says is.
    vi.unstubAllEnvs();
    expect((await verdict()).works).toBe(false);
  });

  test('is proven again where its guest was once booted without a network', async () => {
    fake.behave({ console: boots });
    const { network, ...without } = probedFirecracker(fake.program, 'never');
    expect(network).toEqual({ user: { forwards: [], reach: 'none' } });
    await verdict({ vmm: without });
    await verdict();
    expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(2);
    await verdict();
    expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(2);
  });

  test('does not for a VM whose disk it cannot read, with more CPUs than it has, nor for a tap that it may not open', async () => {
    expect(await verdict({ needs: { network: 'user', disk: 'qcow2', cpus: 1 } })).toEqual({
      works: false,
      isInstalled: true,
      reason: "it cannot read this VM's disk, which is a file in the format qcow2",
    });
    const rights = { uid: 0, status: '', uidMap: '', gidMap: '' };
    expect(await verdict({ rights, needs: { network: 'lan', disk: 'raw', cpus: 1 } })).toMatchObject({
      works: false,
      reason: 'not jailed, as root, it may not open the taps of network "lan"',
    });
    expect(await verdict({ needs: { network: 'user', disk: 'raw', cpus: 33 } })).toMatchObject({
      works: false,
      reason: 'it gives a VM 32 CPUs at most, and this one has 33',
    });
    expect(fake.changes).toEqual([]);
    fake.behave({ console: boots });
    expect(await verdict({ needs: { network: 'lan', disk: 'raw', cpus: 1 } })).toMatchObject({ works: true });
  });

  test('does not where a VM would have no network, when it is too old, and when it is not there', async () => {
    fake.behave({ console: boots });
    const without: Exec = (argv, options) =>
      argv[0] === 'slirp4netns'
        ? Promise.reject(new BangerError('host_unsupported', '"slirp4netns" is not installed or not in PATH'))
        : exec(argv, options);
    expect(await verdict({ exec: without })).toMatchObject({
      works: false,
      isInstalled: true,
      reason:
        'its network needs the programs slirp4netns, ip and nft: "slirp4netns" is not installed or not in PATH',
    });
    expect((await verdict({ tunDevice: join(root, 'missing') })).reason).toBe(
      `its network needs a tap, and ${join(root, 'missing')} does not exist`,
    );
    // Open to nobody, root included.
    expect((await verdict({ tunDevice: root })).reason).toBe(
      `its network needs a tap, and ${root} may not be opened by you (EISDIR)`,
    );
    fake.behave({ version: '1.6.0' });
    expect(await verdict()).toMatchObject({
      works: false,
      reason: expect.stringContaining('Firecracker 1.6.0 is older than 1.7') as string,
    });
    expect(await verdict({ vmm: probedFirecracker('/nonexistent/fc', 'never') })).toMatchObject({
      isInstalled: false,
    });
    expect(fake.changes).toEqual([]);
  });

  test('of a release without ACPI runs VMs whose kernel finds devices by other means, and no others', async () => {
    fake.behave({ version: '1.7.2', console: boots });
    const withKernel = (readsDeviceWords?: boolean) => ({
      needs: { network: 'user', disk: 'raw' as const, cpus: 1, kernel: { name: 'mine', readsDeviceWords } },
    });
    expect(await verdict()).toMatchObject({
      works: false,
      reason:
        'Firecracker 1.7.2 tells guests of their disks by words on the command line only, which kernel "embedded" does not read (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES)',
    });
    expect(await verdict(withKernel(false))).toMatchObject({
      works: false,
      reason: expect.stringContaining('kernel "mine" does not read') as string,
    });
    expect(await verdict(withKernel())).toMatchObject({
      works: false,
      reason: expect.stringContaining(
        '"mine" is not known to read, having been imported by an older',
      ) as string,
    });
    expect(fake.changes).toEqual([]);
    expect(await verdict(withKernel(true))).toMatchObject({ works: true });
    fake.behave({ version: '1.8.0', console: boots });
    expect(await verdict(withKernel(false))).toMatchObject({ works: true });
  });
});
