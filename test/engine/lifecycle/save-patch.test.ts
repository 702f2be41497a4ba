import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { savePatch } from '../../../src/engine/lifecycle/save-patch.ts';
import { killVm } from '../../../src/engine/lifecycle/kill-vm.ts';
import { changeVm, getVm, insertVm, moveVm, type Vm } from '../../../src/state/vms.ts';
import { saveWorkspace } from '../../../src/state/workspaces.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';
import { createFixture, vmId } from '../workspace/workspace-fixture.ts';

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

test('the changes of a VM are its own, also when it was renamed and another has its name', async () => {
  const fixture = createFixture();
  try {
    const { db } = fixture.context;
    writeFileSync(join(fixture.repo.path, 'file'), 'as sent\n');
    fixture.repo.commit('one');
    await fixture.prepare();
    writeFileSync(join(fixture.guestPath, 'file'), 'changed by the run\n');
    const before = getVm(db, vmId);
    changeVm(db, vmId, { name: 'mine' });
    const other = 'b'.repeat(32);
    insertVm(db, { ...before, id: other, controlSocket: '/run/other.sock' });
    moveVm(db, other, 'stopped');
    const context = {
      ...engine.context,
      ...fixture.context,
      handles: { get: () => ({}) } as unknown as typeof engine.context.handles,
    };
    const patch = await savePatch(context, before, fixture.operation);
    expect(patch).toMatchObject({ files: 1 });
    expect(patch!.path).toMatch(/\/mine-[^/]*\.patch$/);
    expect(readFileSync(patch!.path, 'utf8')).toContain('+changed by the run');
  } finally {
    fixture.remove();
  }
});
