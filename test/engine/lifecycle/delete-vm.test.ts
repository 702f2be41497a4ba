import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { dmSnapshot } from '../../../src/host/disks/dm-snapshot.ts';
import { imagePaths, vmPaths } from '../../../src/state/layout.ts';
import { findVm, getVm } from '../../../src/state/vms.ts';
import { fakeDevices } from '../../support/fake-devices.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm, vmWorld } from '../../support/vm-world.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

test('a VM whose devices cannot be removed keeps what they are written down in, and goes when they do', async () => {
  const devices = fakeDevices();
  const context = { ...engine.context, exec: devices.exec };
  const { id } = await createTestVm(engine, { start: false });
  engine.context.db.prepare("UPDATE vms SET disk_method = 'dm-snapshot' WHERE id = ?").run(id);
  const disk = {
    id,
    path: vmPaths(engine.context.layout, id).disk('dm-snapshot'),
    backing: imagePaths(engine.context.layout, testImageId).rootfs,
    imageBytes: 1024,
    sizeBytes: 1024 * 1024,
  };
  writeFileSync(disk.path, '');
  truncateSync(disk.path, disk.sizeBytes);
  await dmSnapshot(devices.exec).attach(disk);

  devices.failAt(0, { isDone: false, isLast: true });
  const remove = () => deleteVm(context, id, fakeOperation().operation);
  for (let attempt = 1; attempt <= 2; attempt++) {
    await expect(remove()).rejects.toThrow('told to fail');
    expect(getVm(context.db, id).state).toBe('deleting');
    expect(existsSync(disk.path)).toBe(true);
  }
  devices.failAt(Infinity, { isDone: false, isLast: false });
  await remove();
  expect([...devices.mappings.keys(), ...devices.loops.keys()]).toEqual([]);
  expect(findVm(context.db, id)).toBeUndefined();
  expect(vmWorld(engine).directories).toEqual([]);
});
