import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { findVmm, vmmDrivers } from '../../src/engine/vmm-drivers.ts';
import type { DriverName, VmmSpec } from '../../src/host/drivers/driver.ts';
import { killProcess } from '../../src/host/process.ts';
import { parseConfig } from '../../src/state/config.ts';
import { makeFakeFirecracker, type FakeFirecracker } from '../support/firecracker-program.ts';

let root: string;
let fake: FakeFirecracker;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'banger-fc-'));
  fake = await makeFakeFirecracker(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const drivers = (toml: string) => ({ driver: vmmDrivers(() => parseConfig(toml, 'config.toml')) });

function spec(): VmmSpec {
  const path = (name: string): string => join(root, name);
  for (const name of ['kernel', 'initrd', 'disk']) writeFileSync(path(name), 'x');
  return {
    id: 'd1ffe2e27d21ae25'.repeat(2),
    cpus: 1,
    memoryMib: 128,
    kernel: path('kernel'),
    initrd: path('initrd'),
    disk: { path: path('disk'), format: 'raw' },
    consoleLog: path('console'),
    vmmLog: path('vmm'),
    controlSocket: path('control'),
    network: {},
    acceleration: 'kvm',
  };
}

test('a VM that Firecracker runs is found, and controlled, whatever the configuration says by then', async () => {
  const { driver } = drivers(`[vmm]\nfirecracker = "${fake.program}"\n`);
  const machine = spec();
  const process = await driver('firecracker').start(machine, new AbortController().signal);
  onTestFinished(() => killProcess(process));

  const later = drivers('[vmm]\ndriver = "qemu"\nfirecracker = "/nonexistent"\n');
  const found = findVmm(later, machine.id);
  expect(found).toMatchObject({ driver: 'firecracker', process, acceleration: 'kvm' });
  const control = await later
    .driver(found!.driver)
    .control({ ...machine, process, disk: machine.disk!.path });
  await control.pause();
  expect(await control.activity()).toBe('paused');
  control.close();
  expect(findVmm(later, 'd'.repeat(32))).toBeUndefined();
});

test('a driver is kept for as long as its program is the same', () => {
  let program = 'one';
  const driver = vmmDrivers(() => parseConfig(`[vmm]\nqemu = "${program}"\n`, 'config.toml'));
  const all = (): unknown[] => (['qemu', 'firecracker'] satisfies DriverName[]).map((name) => driver(name));
  const [qemu, firecracker] = all();
  expect(all()).toEqual([qemu, firecracker]);
  expect(driver('qemu')).toBe(qemu);
  program = 'other';
  expect(driver('qemu')).not.toBe(qemu);
  expect(driver('firecracker')).toBe(firecracker);
});
