import { afterEach, beforeEach, expect, test } from 'vitest';
import { savePatch } from '../../../src/engine/lifecycle/save-patch.ts';
import { killVm } from '../../../src/engine/lifecycle/kill-vm.ts';
import type { Vm } from '../../../src/state/vms.ts';
import { saveWorkspace } from '../../../src/state/workspaces.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
let vm: Vm;

beforeEach(async () => {
  engine = fakeEngine();
  vm = await createTestVm(engine, { ephemeral: true });
});
afterEach(() => engine.close());

const save = () => savePatch(engine.context, vm, fakeOperation().operation);

test('a VM without a working tree has nothing to save', async () => {
  expect(await save()).toBeUndefined();
});

test('a VM with a working tree that has stopped is not taken to have no changes', async () => {
  const preparedAt = new Date().toISOString();
  saveWorkspace(engine.context.db, {
    vmId: vm.id,
    hostPath: '/tree',
    guestPath: '/root/tree',
    baseTree: 'f'.repeat(40),
    preparedAt,
  });
  await killVm(engine.context, vm.id, fakeOperation().operation);
  await expect(save()).rejects.toThrow('not running any more');
});
