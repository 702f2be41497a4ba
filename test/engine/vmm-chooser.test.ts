import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { vmmChooser } from '../../src/engine/vmm-chooser.ts';
import { rootlessRefusal } from '../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../src/host/exec.ts';
import { parseConfig } from '../../src/state/config.ts';
import { resolveLayout } from '../../src/state/layout.ts';
import { writeFakeQemu } from '../host/doctor/fake-qemu.ts';
import { makeFakeFirecracker } from '../support/firecracker-program.ts';
import { fakeLog } from '../support/fakes.ts';

let root: string;
let device: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-chooser-'));
  device = join(root, 'kvm');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

const needs = { network: 'user', disk: 'qcow2', cpus: 1 } as const;

function chooser(settings: string) {
  const env = { BANGER_HOME: join(root, 'b') };
  const layout = resolveLayout({ env, home: root, uid: process.getuid!(), temporaryDirectory: root });
  mkdirSync(dirname(layout.kvmProbeFile), { recursive: true });
  const { log, lines } = fakeLog();
  const file = join(root, 'asset');
  writeFileSync(file, '');
  const assets = { buildId: 'test', file: async () => file } as unknown as Parameters<
    typeof vmmChooser
  >[0]['assets'];
  const config = () => parseConfig(`[vmm]\n${settings}`, 'config.toml');
  // A busy host takes its time to start even a fake.
  return { ...vmmChooser({ layout, assets, log, device, timeoutMs: 60_000 }, config), lines };
}

test('a KVM that comes while the engine runs is used at once, and one that goes is not', async () => {
  const { chooseVmm, lines } = chooser(`driver = "qemu"\nqemu = "${writeFakeQemu(root, 'works')}"\n`);
  const acceleration = async () => (await chooseVmm(needs)).acceleration;
  expect(await acceleration()).toBe('tcg');
  writeFileSync(device, '');
  expect(await acceleration()).toBe('kvm');
  expect(await acceleration()).toBe('kvm');
  rmSync(device);
  expect(await acceleration()).toBe('tcg');
  // Told when it changes.
  expect(lines).toHaveLength(3);
});

test('who asks while it is being found out waits for the same answer', async () => {
  writeFileSync(device, '');
  const program = writeFakeQemu(root, 'works');
  const { chooseVmm } = chooser(`driver = "qemu"\nqemu = "${program}"\n`);
  await Promise.all(Array.from({ length: 5 }, () => chooseVmm(needs)));
  expect(readFileSync(`${program}.starts`, 'utf8')).toBe('1\n');
});

test('it is found out where the temporary files of a shell have gone with that', async ({ skip }) => {
  vi.stubEnv('TMPDIR', join(root, 'gone'));
  writeFileSync(device, '');
  const qemu = chooser(`driver = "qemu"\nqemu = "${writeFakeQemu(root, 'works')}"\n`);
  expect((await qemu.chooseVmm(needs)).acceleration).toBe('kvm');
  const emptied = () => ['state/vms', 'run'].map((name) => readdirSync(join(root, 'b', name)));
  expect(emptied()).toEqual([[], []]);

  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const fake = await makeFakeFirecracker(root);
  fake.behave({ console: 'banger-probe-ok\n' });
  const settings = `driver = "firecracker"\nfirecracker = "${fake.program}"\njailer = "never"\n`;
  expect((await chooser(settings).chooseVmm({ ...needs, disk: 'raw' })).driver).toBe('firecracker');
  expect(emptied()).toEqual([[], []]);
});

test('of Firecracker, too, one guest is booted for all who ask at once', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  writeFileSync(device, '');
  const fake = await makeFakeFirecracker(root);
  fake.behave({ console: 'banger-probe-ok\n' });
  const { chooseVmm } = chooser(
    `driver = "firecracker"\nfirecracker = "${fake.program}"\njailer = "never"\n`,
  );
  const choices = await Promise.all(
    Array.from({ length: 4 }, () => chooseVmm({ network: 'user', disk: 'raw', cpus: 1 })),
  );
  expect(choices.map(({ driver }) => driver)).toEqual(Array(4).fill('firecracker'));
  expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(1);
  // One that it cannot run gets the best disk that QEMU has.
  const { wantsRawDisk } = chooser(`firecracker = "${fake.program}"\naccel = "kvm"\n`);
  expect(await wantsRawDisk({ network: 'user', cpus: 33 })).toBe(false);
});
