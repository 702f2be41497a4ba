import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { DiskProbes } from '../../../src/host/disks/probe.ts';
import { exec as realExec, type Exec } from '../../../src/host/exec.ts';
import { fakeDevices } from '../../support/fake-devices.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-probes-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Counts snapshots that are made: the first device-mapper device of each stands for it. */
function countingDevices() {
  const devices = fakeDevices();
  const counted = { probes: 0, hasDeviceMapper: true };
  const exec: Exec = async (argv, options) => {
    if (argv[0] === 'dmsetup' && argv[1] === 'create' && argv[2]?.endsWith('-base')) {
      counted.probes += 1;
      if (!counted.hasDeviceMapper)
        throw new BangerError('command_failed', '/dev/mapper/control: open failed: No such device');
    }
    return (argv[0] === 'fallocate' ? realExec : devices.exec)(argv, options);
  };
  return { counted, devices, probes: new DiskProbes(exec) };
}

describe.runIf(process.getuid!() === 0)('whether there are snapshots by device-mapper', () => {
  test('is tried once when they work, and nothing of it is left', async () => {
    const { counted, devices, probes } = countingDevices();
    for (let asked = 0; asked < 3; asked++)
      expect(await probes.dmSnapshot(root)).toEqual({ works: true, reason: 'works' });
    expect(counted.probes).toBe(1);
    expect([...devices.mappings.keys(), ...devices.loops.keys(), ...readdirSync(root)]).toEqual([]);
  });

  test('is tried again as long as they do not: a module may be loaded meanwhile', async () => {
    const { counted, probes } = countingDevices();
    counted.hasDeviceMapper = false;
    for (let asked = 0; asked < 2; asked++)
      expect(await probes.dmSnapshot(root)).toEqual({
        works: false,
        reason: 'this kernel has no device-mapper',
      });
    counted.hasDeviceMapper = true;
    expect((await probes.dmSnapshot(root)).works).toBe(true);
    expect((await probes.dmSnapshot(root)).works).toBe(true);
    expect(counted.probes).toBe(3);
  });

  test.each([true, false])('is tried once for two who ask at once (they work: %s)', async (works) => {
    const { counted, probes } = countingDevices();
    counted.hasDeviceMapper = works;
    const [one, other] = await Promise.all([probes.dmSnapshot(root), probes.dmSnapshot(root)]);
    expect([one.works, other.works]).toEqual([works, works]);
    expect(counted.probes).toBe(1);
  });
});

test('a directory that is gone is an error each time, and no verdict about its filesystem', async () => {
  const { probes } = countingDevices();
  await expect(probes.reflink(join(root, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await probes.reflink(root)).toHaveProperty('works');
});
