import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { exec } from '../../../src/host/exec.ts';
import {
  checkAcceleration,
  openDevice,
  type AccelerationFindings,
  type AccelerationInput,
} from '../../../src/host/doctor/acceleration.ts';
import type { CheckResult } from '../../../src/host/doctor/check.ts';
import { Scratch } from '../../../src/host/doctor/scratch.ts';
import { rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import {
  cachedKvmProbe,
  probedFirecracker,
  probedQemu,
  type ProbedVmm,
} from '../../../src/host/kvm-probe.ts';
import { firecrackerVerdict } from '../../../src/host/vmm-choice.ts';
import { makeFakeFirecracker } from '../../support/firecracker-program.ts';
import { writeFakeQemu } from './fake-qemu.ts';

/** A file that even root may not write to: the kernel refuses it whatever the capabilities. */
const closedFile = '/proc/sys/kernel/random/boot_id';

let root: string;
let device: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  device = join(root, 'kvm');
  writeFileSync(device, '');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

async function check(
  behaviour: 'works' | 'slow' | 'hangs' | 'fails',
  given: Partial<AccelerationInput> = {},
): Promise<
  AccelerationFindings & {
    readonly kvm: CheckResult;
    readonly firecracker: CheckResult;
    readonly decision: CheckResult;
  }
> {
  const scratch = new Scratch(root);
  try {
    const findings = await checkAcceleration({
      exec,
      qemuProgram: writeFakeQemu(root, behaviour),
      hasQemu: true,
      network: 'user',
      diskMethod: 'auto',
      wanted: 'auto',
      driver: 'auto',
      firecrackerProgram: '/nonexistent/firecracker',
      firecrackerJailer: 'auto',
      hasFirecracker: false,
      guestId: async () => 'guest',
      configFile: '/config.toml',
      kernel: async () => '/kernel',
      initrd: async () => '/initrd',
      scratch,
      jailScratch: scratch,
      verdictFile: join(root, 'verdict.json'),
      firecrackerVerdictFile: join(root, 'firecracker-verdict.json'),
      device,
      // A busy host takes its time to start even a fake.
      timeoutMs: behaviour === 'hangs' ? undefined : 60_000,
      cpuinfo: 'flags\t: fpu svm\n',
      groups: '',
      onProbe: () => undefined,
      ...given,
    });
    return {
      ...findings,
      kvm: findings.checks[0]!,
      firecracker: findings.checks[1]!,
      decision: findings.checks[2]!,
    };
  } finally {
    await scratch.remove();
  }
}

test('KVM that works is used', async () => {
  const { kvm, decision, acceleration } = await check('works');
  expect(kvm).toMatchObject({ status: 'pass', evidence: 'works: a guest booted on it' });
  expect(decision).toMatchObject({ status: 'pass', evidence: 'QEMU with KVM' });
  expect(acceleration).toBe('kvm');
});

test('KVM that opens but boots nothing is told apart, and emulation is used', async () => {
  const { kvm, decision, acceleration } = await check('hangs', { cpuinfo: 'flags : hypervisor\n' });
  expect(kvm).toMatchObject({
    status: 'warn',
    evidence:
      'opens, but a guest did not boot on it within 3 s: emulation is used, CPU work is 10 to 20 times slower (processor flags: hypervisor)',
  });
  expect(kvm.fix).toContain('nested virtualization');
  expect(decision).toMatchObject({ status: 'pass', evidence: 'QEMU with emulation (TCG)' });
  expect(acceleration).toBe('tcg');
});

test('what QEMU says of KVM is passed on', async () => {
  const { kvm } = await check('fails');
  expect(kvm.evidence).toContain('opens, but QEMU cannot use it: qemu: could not enable KVM');
});

test.each([
  ['flags : vmx', 'modprobe kvm_intel'],
  ['flags : svm hypervisor', 'modprobe kvm_amd'],
  ['flags : hypervisor', 'nested virtualization'],
  ['flags : fpu', 'firmware'],
])('without a device, "%s" leads to %s', async (cpuinfo, words) => {
  const { kvm, acceleration } = await check('works', { device: join(root, 'missing'), cpuinfo });
  expect(kvm).toMatchObject({ status: 'warn' });
  expect(kvm.fix).toContain(words);
  expect(acceleration).toBe('tcg');
});

test('a closed device of root is opened for the user', async () => {
  const { kvm } = await check('works', { device: closedFile });
  expect(kvm).toMatchObject({
    status: 'warn',
    fix: `Open it until the next boot: sudo setfacl -m u:$USER:rw ${closedFile}`,
  });
});

test.each([
  [104, 0o660, 'sudo usermod -aG kvm $USER'],
  [104, 0o600, 'sudo setfacl -m u:$USER:rw /dev/kvm'],
  [0, 0o660, 'sudo setfacl -m u:$USER:rw /dev/kvm'],
  [999, 0o660, 'sudo setfacl -m u:$USER:rw /dev/kvm'],
])('a device of group %i with mode %o is opened by: %s', (gid, mode, command) => {
  const groups = 'root:x:0:\nkvm:x:104:somebody\n';
  expect(openDevice('/dev/kvm', { gid, mode }, groups)).toContain(command);
});

test('Firecracker is tried where VMs are, since temporary files may be where nothing runs', async () => {
  const found = await check('works', {
    hasFirecracker: true,
    jailScratch: new Scratch(join(root, 'missing')),
  });
  expect(found.kvm.evidence).toBe('works: a guest booted on it');
  expect(found.firecracker.evidence).toContain(`could not be tried: ENOENT`);
  expect(found.firecracker.evidence).toContain(join(root, 'missing'));
});

test('what VMs will run by goes by the boots that were just tried, and no other is', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const fake = await makeFakeFirecracker(root);
  fake.behave({ console: 'banger-probe-ok\n' });
  for (const name of ['kernel', 'initrd']) writeFileSync(join(root, name), '');
  const here = readdirSync('.');
  const found = await check('works', {
    driver: 'firecracker',
    firecrackerProgram: fake.program,
    firecrackerJailer: 'never',
    hasFirecracker: true,
    kernel: async () => join(root, 'kernel'),
    initrd: async () => join(root, 'initrd'),
  });
  expect(found.firecracker.evidence).toBe('works: a guest booted on it');
  expect(found.decision.evidence).toMatch(/^Firecracker with KVM, as the configuration says/);
  expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(1);
  // The engine's verdict stays its own, and so does where doctor was asked.
  expect(existsSync(join(root, 'verdict.json'))).toBe(false);
  expect(readdirSync('.')).toEqual(here);
});

test('nothing is tried without any VMM', async () => {
  let probes = 0;
  const { kvm, decision } = await check('works', { hasQemu: false, onProbe: () => probes++ });
  expect([kvm.status, decision.status, probes]).toEqual(['skip', 'skip', 0]);
});

describe('a Firecracker that boots', () => {
  let firecracker: Partial<AccelerationInput>;
  beforeEach(async ({ skip }) => {
    const refusal = await rootlessRefusal(exec);
    if (refusal !== undefined) skip(refusal);
    const fake = await makeFakeFirecracker(root);
    fake.behave({ console: 'banger-probe-ok\n' });
    for (const name of ['kernel', 'initrd']) writeFileSync(join(root, name), '');
    firecracker = {
      driver: 'firecracker',
      firecrackerProgram: fake.program,
      firecrackerJailer: 'never',
      hasFirecracker: true,
      kernel: async () => join(root, 'kernel'),
      initrd: async () => join(root, 'initrd'),
    };
  });

  test('runs VMs without QEMU, and with one that cannot use KVM, whose VMs would be emulated', async () => {
    for (const hasQemu of [false, true]) {
      const found = await check('fails', { ...firecracker, hasQemu });
      expect(found.decision.status).toBe('pass');
      expect(found).toMatchObject({ driver: 'firecracker', acceleration: 'tcg' });
      expect(found.kvm.status).toBe(hasQemu ? 'warn' : 'skip');
    }
  });

  test('is judged by the disks and the network that the configuration gives VMs', async () => {
    const qcow2 = await check('works', { ...firecracker, diskMethod: 'qcow2' });
    expect(qcow2.decision).toMatchObject({
      status: 'fail',
      evidence: expect.stringContaining("it cannot read this VM's disk") as string,
    });
    expect(qcow2.driver).toBe('qemu');
    const many = await check('works', { ...firecracker, cpus: 33 });
    expect(many.decision.evidence).toContain('it gives a VM 32 CPUs at most');
    const bridged = await check('works', { ...firecracker, network: 'lan' });
    // Taps of root's are for jailed ones alone.
    expect(bridged.decision.status).toBe(process.getuid!() === 0 ? 'fail' : 'pass');
  });
});

test('assets that cannot be unpacked are no verdict on KVM', async () => {
  const kernel = (): Promise<string> => Promise.reject(new Error('no space left on device'));
  const { kvm } = await check('works', { kernel });
  expect(kvm).toMatchObject({ status: 'warn' });
  expect(kvm.evidence).toContain('could not be tried: no space left on device');
});

test('a configuration that insists on KVM gives a guest more time than a probe has', async () => {
  const { kvm } = await check('slow', { wanted: 'kvm', timeoutMs: undefined });
  expect(kvm).toMatchObject({ status: 'pass', evidence: 'works: a guest booted on it' });
});

test('a configuration that insists on KVM fails where it does not work', async () => {
  expect((await check('fails', { wanted: 'kvm' })).decision).toMatchObject({
    status: 'fail',
    fix: 'Set accel = "auto" under [vmm] in /config.toml',
  });
  expect((await check('works', { wanted: 'kvm' })).decision.status).toBe('pass');
});

test('a configuration that wants emulation gets it, whatever KVM can do', async () => {
  const { decision, acceleration } = await check('works', { wanted: 'tcg' });
  expect(decision.evidence).toBe('QEMU with emulation (TCG), as the configuration says');
  expect(acceleration).toBe('tcg');
});

test('an outdated verdict that VMs still go by is noticed, and left for the user to remove', async () => {
  const verdictFile = join(root, 'verdict.json');
  const probe = {
    exec,
    guestId: 'guest',
    kernel: async () => '/k',
    initrd: async () => '/i',
    temporaryDirectory: root,
    device,
  };
  await cachedKvmProbe({ ...probe, vmm: probedQemu(writeFakeQemu(root, 'fails')) }, verdictFile);
  const { kvm } = await check('works', { verdictFile });
  expect(kvm).toMatchObject({
    status: 'warn',
    fix: `Have it probed again: rm ${verdictFile}; banger engine stop`,
  });
  expect(readdirSync(root)).toContain('verdict.json');
  expect((await check('fails', { verdictFile })).kvm.evidence).not.toContain('earlier probe');
});

test('so is one of Firecracker', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const fake = await makeFakeFirecracker(root);
  for (const name of ['kernel', 'initrd']) writeFileSync(join(root, name), '');
  const firecrackerVerdictFile = join(root, 'firecracker-verdict.json');
  const guest = {
    kernel: async () => join(root, 'kernel'),
    initrd: async () => join(root, 'initrd'),
  };
  const asked = {
    ...guest,
    driver: 'firecracker',
    firecrackerProgram: fake.program,
    firecrackerJailer: 'never',
    hasFirecracker: true,
  } as const;
  const remember = (vmm: ProbedVmm) =>
    cachedKvmProbe(
      { exec, guestId: 'guest', ...guest, temporaryDirectory: root, device, vmm, timeoutMs: 500 },
      firecrackerVerdictFile,
    );
  await firecrackerVerdict({
    exec,
    vmm: probedFirecracker(fake.program, 'never'),
    probe: remember,
    needs: { network: 'user', disk: 'raw', cpus: 1 },
    isInsistedOn: true,
    jailer: 'never',
  });
  fake.behave({ console: 'banger-probe-ok\n' });
  expect((await check('works', asked)).firecracker).toMatchObject({
    status: 'warn',
    evidence: expect.stringMatching(/^a guest booted on it, but an earlier probe/) as string,
    fix: `Have it probed again: rm ${firecrackerVerdictFile}; banger engine stop`,
  });
});
