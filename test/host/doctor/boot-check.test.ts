import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runTrialBoot, type BootCheckInput } from '../../../src/host/doctor/boot-check.ts';
import { fail, pass } from '../../../src/host/doctor/check.ts';
import { Scratch } from '../../../src/host/doctor/scratch.ts';
import { guestPhases } from '../../../src/host/doctor/trial-boot.ts';
import { rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../../src/host/exec.ts';
import { makeFakeFirecracker } from '../../support/firecracker-program.ts';
import { writeFakeQemu, writeFakeVmm } from './fake-qemu.ts';

let root: string;
let scratch: Scratch;
let stages: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  mkdirSync(join(root, 'temporary'));
  scratch = new Scratch(join(root, 'temporary'));
  stages = [];
});
afterEach(async () => {
  await scratch.remove();
  expect(readdirSync(join(root, 'temporary'))).toEqual([]);
  rmSync(root, { recursive: true, force: true });
});

function input(given: Partial<BootCheckInput> & { readonly qemuProgram: string }): BootCheckInput {
  const checks = [pass({ id: 'qemu', title: 'QEMU' }, '8.1')];
  return {
    findings: {
      checks,
      driver: 'qemu',
      acceleration: 'tcg',
      diskMethods: [],
      firecrackerProgram: '/nonexistent',
      firecrackerJailer: 'auto',
      qemuProgram: given.qemuProgram,
    },
    kernel: async () => '/kernel',
    toolbox: async () => '/toolbox',
    modules: async () => '/modules',
    imagesDirectory: join(root, 'images'),
    vmsDirectory: root,
    scratch,
    jailScratch: scratch,
    onStage: (stage) => stages.push(stage),
    ...given,
  };
}

test('without an image, the boot ends with the first words of our init', async () => {
  const { check, boot } = await runTrialBoot(
    input({ qemuProgram: writeFakeVmm(root, 'banger-probe-ok\r\n') }),
  );
  expect(check.status).toBe('pass');
  expect(check.evidence).toMatch(/^a kernel booted to its init and powered off, .* no image to go on with$/);
  expect(boot).toMatchObject({ kind: 'kernel', acceleration: 'tcg' });
  expect(boot!.phases.map((phase) => phase.id)).toEqual(['prepare', 'vmm', 'kernel', 'power-off']);
  expect(stages).toEqual(boot!.phases.map((phase) => phase.title));
});

test('what is booted first is what VMs will be run by', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const fake = await makeFakeFirecracker(root);
  fake.behave({ console: 'banger-probe-ok\n[    1.000000] reboot: System halted\n' });
  for (const name of ['kernel', 'toolbox']) writeFileSync(join(root, name), '');
  const { findings, ...rest } = input({ qemuProgram: writeFakeQemu(root, 'hangs') });
  const { check, boot } = await runTrialBoot({
    ...rest,
    kernel: async () => join(root, 'kernel'),
    toolbox: async () => join(root, 'toolbox'),
    findings: {
      ...findings,
      driver: 'firecracker',
      firecrackerProgram: fake.program,
      firecrackerJailer: 'never',
    },
  });
  expect(check).toMatchObject({ status: 'pass' });
  expect(boot).toMatchObject({ kind: 'kernel', acceleration: 'kvm' });
  expect(existsSync(`${findings.qemuProgram}.starts`)).toBe(false);
});

test('a guest that ends without a word is a failure', async () => {
  const { check, boot } = await runTrialBoot(input({ qemuProgram: writeFakeVmm(root, 'Kernel panic\r\n') }));
  expect(check).toMatchObject({ status: 'fail', evidence: 'The guest ended before its init ran' });
  expect(boot).toBeUndefined();
});

test('a VMM that does not start is a failure with its own words', async () => {
  const { check } = await runTrialBoot(input({ qemuProgram: writeFakeQemu(root, 'fails') }));
  expect(check).toMatchObject({
    status: 'fail',
    evidence: 'QEMU ended at once: qemu: could not enable KVM',
  });
});

test('nothing is booted on a host that failed a check', async () => {
  const checks = [fail({ id: 'qemu', title: 'QEMU' }, 'missing')];
  const findings = {
    checks,
    driver: 'qemu',
    acceleration: 'tcg',
    diskMethods: [],
    firecrackerProgram: '/nonexistent',
    firecrackerJailer: 'auto',
    qemuProgram: '/nonexistent',
  } as const;
  const { check } = await runTrialBoot(input({ qemuProgram: '/nonexistent', findings }));
  expect(check).toMatchObject({ status: 'skip', evidence: 'not tried: a check failed' });
  expect(stages).toEqual([]);
});

test('a root disk is made where it will be removed, and why it cannot be is said', async () => {
  const made: string[] = [];
  const makeRootDisk = async (path: string): Promise<void> => {
    made.push(path);
    throw new Error('no space left on device');
  };
  const { check } = await runTrialBoot(input({ qemuProgram: writeFakeQemu(root, 'fails'), makeRootDisk }));
  expect(check).toMatchObject({ status: 'fail', evidence: 'no space left on device' });
  expect(made).toEqual([join(scratch.directory, 'vm/rootfs/rootfs.ext4')]);
});

test('of published images the smallest is booted, and only read', async () => {
  for (const [id, bytes] of [
    ['a'.repeat(64), 4_000_000],
    ['b'.repeat(64), 1_000_000],
  ] as const) {
    mkdirSync(join(root, 'images', id), { recursive: true });
    writeFileSync(join(root, 'images', id, 'rootfs.ext4'), Buffer.alloc(bytes, 1));
  }
  mkdirSync(join(root, 'images', '.staging'));
  const commands: string[] = [];
  const asset = async () => join(root, 'asset');
  writeFileSync(await asset(), 'x'.repeat(512));
  await runTrialBoot({
    ...input({ qemuProgram: writeFakeQemu(root, 'fails'), toolbox: asset, modules: asset }),
    exec: async (argv) => {
      commands.push(argv.join(' '));
      throw new Error('stopped here');
    },
  });
  expect(commands).toHaveLength(1);
  expect(commands[0]).toContain(`-F raw -b ${join(root, 'images', 'b'.repeat(64), 'rootfs.ext4')}`);
});

test('phases are durations that add up to the boot', () => {
  const phases = { kernel: 1, modules: 1.5, root: 1.75, network: 2.75, ssh: 3 };
  const seconds = guestPhases({ protocol: 1, bootId: '', phases, init: 'banger', hasShell: true }, 3.5).map(
    (phase) => [phase.id, phase.seconds] as const,
  );
  expect(seconds).toEqual([
    ['kernel', 1],
    ['modules', 0.5],
    ['root', 0.25],
    ['network', 1],
    ['ssh', 0.25],
    ['other', 0.5],
  ]);
});

test('a network that was ready before the root disk cost nothing', () => {
  const phases = { kernel: 1, modules: 1.5, root: 2, network: 1.75, ssh: 2.5 };
  const found = guestPhases({ protocol: 1, bootId: '', phases, init: 'banger', hasShell: true }, 2.4);
  expect(found.find((phase) => phase.id === 'network')?.seconds).toBe(0);
  expect(found.find((phase) => phase.id === 'ssh')?.seconds).toBe(0.5);
  expect(found.find((phase) => phase.id === 'other')?.seconds).toBe(0);
});
