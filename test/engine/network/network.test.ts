import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { listVms } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;

beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const create = (extra = {}) =>
  createVm(
    engine.context,
    { name: 'web', start: true, ephemeral: false, ...extra },
    fakeOperation().operation,
  );
const publish = [{ protocol: 'tcp' as const, bind: '127.0.0.1', guestPort: 80 }];

test('a VM is on the user network unless the configuration or its maker says otherwise', async () => {
  const vm = await create({ publish });
  expect(vm.network).toBe('user');
  const { user, tap } = engine.specs[0]!.network;
  expect(user).toMatchObject({ reach: 'all' });
  expect(user!.forwards.map(({ guestPort }) => guestPort)).toEqual([1022, 80]);
  expect(tap).toBeUndefined();
});

test('Firecracker has the same user network, with the same ways in', async () => {
  engine.faults.driver = 'firecracker';
  await create({ publish });
  const { user, tap } = engine.specs[0]!.network;
  expect(user).toMatchObject({ reach: 'all' });
  expect(user!.forwards.map(({ guestPort }) => guestPort)).toEqual([1022, 80]);
  expect(tap).toBeUndefined();
});

test('a VM without a network gets nothing out, knows no way out, and lets in only us', async () => {
  const vm = await create({ network: 'none' });
  const { user } = engine.specs[0]!.network;
  expect(user).toMatchObject({ reach: 'none', forwards: [{ bind: '127.0.0.1', guestPort: 1022 }] });
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toMatch(/^GATEWAY=''\nDNS=''$/m);
});

test('ports of a VM without a network are refused before anything is made', async () => {
  await expect(create({ network: 'none', publish })).rejects.toMatchObject({ code: 'invalid_argument' });
  expect(listVms(engine.context.db)).toEqual([]);
});

test('a network that is not there is refused before anything is made', async () => {
  for (const isUnprivileged of [false, true]) {
    engine.faults.isUnprivileged = isUnprivileged;
    await expect(create({ network: 'lab' })).rejects.toThrow('There is no network named "lab"');
    await expect(create({ network: 'uesr' })).rejects.toMatchObject({
      code: 'not_found',
      hint: 'Did you mean "user"? List networks with: banger network list',
    });
  }
  expect(listVms(engine.context.db)).toEqual([]);
});
