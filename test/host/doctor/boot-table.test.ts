import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { tryWays, type BootTableInput } from '../../../src/host/doctor/boot-table.ts';
import { pass, skip, warn, type CheckResult } from '../../../src/host/doctor/check.ts';
import { Scratch } from '../../../src/host/doctor/scratch.ts';
import type { TrialBoot } from '../../../src/host/doctor/trial-boot.ts';
import { writeFakeQemu } from './fake-qemu.ts';

let root: string;
let scratch: Scratch;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  mkdirSync(join(root, 'temporary'));
  scratch = new Scratch(join(root, 'temporary'));
  for (const name of ['kernel', 'toolbox', 'modules', 'rootfs'])
    writeFileSync(join(root, name), 'x'.repeat(512));
});
afterEach(async () => {
  await scratch.remove();
  rmSync(root, { recursive: true, force: true });
});

const first: TrialBoot = { kind: 'full', acceleration: 'tcg', phases: [], totalSeconds: 3 };
const methods = [
  { method: 'qcow2', works: true, detail: '' },
  { method: 'reflink', works: false, detail: 'no reflinks' },
  { method: 'copy', works: true, detail: '' },
  { method: 'dm-snapshot', works: false, detail: 'needs root' },
] as const;

let stages: string[];
function input(findings: Partial<BootTableInput['findings']> = {}): BootTableInput {
  stages = [];
  const checks = [
    pass({ id: 'qemu', title: 'QEMU' }, '8.1'),
    warn({ id: 'kvm', title: 'KVM' }, 'opens, but hangs'),
    skip({ id: 'firecracker', title: 'Firecracker' }, 'not installed'),
    pass({ id: 'bridges', title: 'Bridges' }, 'made when VMs need them'),
  ];
  const file = (name: string) => async () => join(root, name);
  return {
    findings: {
      checks,
      driver: 'qemu',
      acceleration: 'tcg',
      diskMethods: methods,
      qemuProgram: writeFakeQemu(root, 'fails'),
      firecrackerProgram: '/nonexistent',
      firecrackerJailer: 'auto',
      ...findings,
    },
    kernel: file('kernel'),
    toolbox: file('toolbox'),
    modules: file('modules'),
    rootfs: file('rootfs'),
    imagesDirectory: join(root, 'images'),
    vmsDirectory: root,
    scratch,
    jailScratch: scratch,
    onStage: (stage) => void stages.push(stage),
  };
}

test('every way is told with what came of it, or with why it was not tried', async () => {
  const rows = await tryWays(input(), first);
  const refused = 'QEMU ended at once: qemu: could not enable KVM';
  expect(
    rows.map(({ driver, acceleration, disk, network, result, reason }) =>
      [driver, acceleration, disk, network, result, reason].join(' '),
    ),
  ).toEqual([
    'qemu tcg qcow2 user works ',
    `qemu tcg qcow2 none fails ${refused}`,
    'qemu tcg reflink user not tried no reflinks',
    'qemu tcg reflink none not tried no reflinks',
    `qemu tcg copy user fails ${refused}`,
    `qemu tcg copy none fails ${refused}`,
    'qemu tcg dm-snapshot user not tried needs root',
    'qemu tcg dm-snapshot none not tried needs root',
    'qemu tcg qcow2 bridge not tried it would change the network of this host, which doctor leaves as it is',
    'qemu kvm qcow2 user not tried opens, but hangs',
    ...['reflink', 'copy', 'dm-snapshot'].flatMap((disk) =>
      ['user', 'none'].map((network) => `firecracker kvm ${disk} ${network} not tried not installed`),
    ),
    'firecracker kvm copy bridge not tried not installed',
  ]);
  expect(readdirSync(scratch.directory)).toEqual(['owner.json']);
  expect(stages).toEqual([
    'Trying another way, 1 of 3: QEMU by emulation, disk by qcow2, network none',
    'Trying another way, 2 of 3: QEMU by emulation, disk by copy, network user',
    'Trying another way, 3 of 3: QEMU by emulation, disk by copy, network none',
  ]);
});

test('what Firecracker reads is tried with it, as far as there is such a disk', async () => {
  const booted = ['firecracker', 'firecracker-kvm'].map((id) => pass({ id, title: id }, 'fine'));
  const rows = await tryWays(input({ checks: booted }), first);
  const own = rows.filter(({ driver }) => driver === 'firecracker');
  const missing = 'fails "/nonexistent" is not installed or not in PATH';
  expect(own.map(({ disk, network, result, reason }) => `${disk} ${network} ${result} ${reason}`)).toEqual([
    'reflink user not tried no reflinks',
    'reflink none not tried no reflinks',
    `copy user ${missing}`,
    `copy none ${missing}`,
    'dm-snapshot user not tried needs root',
    'dm-snapshot none not tried needs root',
    'copy bridge not tried not checked',
  ]);
});

test('where VMs are run by Firecracker, that comes first, and QEMU as it would run them, if there is one', async () => {
  const booted = ['firecracker', 'firecracker-kvm'].map((id) => pass({ id, title: id }, 'fine'));
  const ways = async (checks: CheckResult[]) =>
    (await tryWays(input({ driver: 'firecracker', checks: [...booted, ...checks] }), first)).map(
      ({ driver, acceleration, disk, network, result, reason }) =>
        `${driver} ${acceleration} ${disk} ${network} ${result} ${reason}`,
    );
  const [one, two, ...rest] = await ways([pass({ id: 'qemu', title: 'QEMU' }, '8.1')]);
  expect([one, two]).toEqual([
    'firecracker kvm copy user works ',
    'qemu tcg qcow2 user fails QEMU ended at once: qemu: could not enable KVM',
  ]);
  expect(rest.filter((way) => way.startsWith('firecracker kvm copy user'))).toEqual([]);
  const without = await ways([warn({ id: 'qemu', title: 'QEMU' }, 'not installed')]);
  expect(without[1]).toBe('qemu tcg qcow2 user not tried not installed');
});

test('where KVM works, emulation is tried beside it', async () => {
  const rows = await tryWays(input({ acceleration: 'kvm' }), { ...first, acceleration: 'kvm' });
  expect(rows.map(({ acceleration, result }) => `${acceleration} ${result}`)).toContain('tcg fails');
});
