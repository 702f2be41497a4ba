import { existsSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { findVm, getVm, listVms, resolveVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm, vmWorld } from '../../support/vm-world.ts';

let engine: FakeEngine;
beforeEach(() => (engine = fakeEngine()));
afterEach(() => engine.close());

const remove = (id: string) => deleteVm(engine.context, id, fakeOperation().operation);
const rename = (vm: Vm, name: string) =>
  setVm(
    engine.context,
    { id: vm.id, params: { name, removeLabels: [], publish: [], unpublish: [] } },
    fakeOperation().operation,
  );

/** Every row has its own directory, VMM and handles, and nothing else has any. */
function expectWhole(): void {
  const names = listVms(engine.context.db)
    .map((vm) => vm.name)
    .toSorted();
  expect(new Set(names).size).toBe(names.length);
  expect(vmWorld(engine)).toMatchObject({ directories: names, vmms: names, handles: names, sockets: [] });
}

test('create, delete and create of one name at once: whoever has the name is one VM, and an old one is gone', async () => {
  const old = new Set<string>();
  for (let round = 0; round < 5; round++) {
    const current = listVms(engine.context.db)[0] ?? (await createTestVm(engine));
    const [created, , again] = await Promise.allSettled([
      createTestVm(engine),
      remove(current.id),
      createTestVm(engine),
    ]);
    old.add(current.id);
    expectWhole();
    for (const outcome of [created, again]) {
      if (outcome.status === 'fulfilled') expect(old).not.toContain(outcome.value.id);
      else expect(outcome.reason).toMatchObject({ code: 'already_exists' });
    }
    for (const id of old) {
      expect(findVm(engine.context.db, id)).toBeUndefined();
      expect(existsSync(vmPaths(engine.context.layout, id).directory)).toBe(false);
    }
  }
});

test('a name that was deleted belongs to the next VM alone: an id of before names nobody', async () => {
  const first = await createTestVm(engine);
  await remove(first.id);
  const second = await createTestVm(engine);
  expect(resolveVm(engine.context.db, 'web').id).toBe(second.id);
  expect(() => resolveVm(engine.context.db, first.id)).toThrow('There is no VM');
});

test('of two that are renamed to one name at once one gets it, and the other keeps its own', async () => {
  const one = await createTestVm(engine, { name: 'one' });
  const two = await createTestVm(engine, { name: 'two' });
  const outcomes = await Promise.allSettled([rename(one, 'web'), rename(two, 'web')]);
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find((outcome) => outcome.status === 'rejected')?.reason).toMatchObject({
    code: 'already_exists',
  });
  expectWhole();
});

test("a rename and a create of one name at once, and two that want each other's: nobody takes a name that is taken", async () => {
  const one = await createTestVm(engine, { name: 'one' });
  await Promise.allSettled([rename(one, 'web'), createTestVm(engine)]);
  expectWhole();
  const two = await createTestVm(engine, { name: 'two' });
  const name = getVm(engine.context.db, one.id).name;
  const outcomes = await Promise.allSettled([rename(one, 'two'), rename(two, name)]);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expectWhole();
});
