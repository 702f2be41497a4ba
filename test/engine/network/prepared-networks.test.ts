import { afterEach, beforeEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { networkRoutes } from '../../../src/engine/network/network-routes.ts';
import type { PreparedNetwork } from '../../../src/host/setup/host-setup.ts';
import { listAddresses, listNetworks } from '../../../src/state/networks.ts';
import type { Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { preparedNetwork, setUpHost } from '../../support/host-setup.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const create = (name: string, network: string): Promise<Vm> =>
  createVm(engine.context, { name, network, start: false, ephemeral: false }, fakeOperation().operation);
const start = ({ id }: Vm) => startVm(engine.context, id, fakeOperation().operation);
const setUpWith = (...networks: PreparedNetwork[]) => setUpHost(engine, { networks, hasHeldTaps: true });
const bridge = preparedNetwork('bridge', 7);

test('a network that gets another one’s addresses, with no VM on that, is made in its place', async () => {
  setUpWith(bridge, preparedNetwork('lab', 89));
  const { id } = await create('one', 'lab');
  await deleteVm(engine.context, id, fakeOperation().operation);
  setUpWith(bridge, preparedNetwork('dev', 89));
  expect((await create('two', 'dev')).address).toBe('10.213.89.2');
  expect(listNetworks(engine.context.db).map(({ name, number }) => [name, number])).toEqual([['dev', 89]]);
});

test('while a VM has addresses of a network that is no more, who is in the way is said', async () => {
  setUpWith(bridge, preparedNetwork('lab', 89));
  const one = await create('one', 'lab');
  setUpWith(bridge, preparedNetwork('dev', 89));
  const refusal = {
    code: 'invalid_state',
    message: expect.stringContaining('"one" still has an address of network "lab"') as string,
    hint: expect.stringContaining('banger vm delete one') as string,
  };
  await expect(create('two', 'dev')).rejects.toMatchObject(refusal);
  // Its own name with other addresses, too.
  setUpWith(bridge, preparedNetwork('lab', 90));
  await expect(create('two', 'lab')).rejects.toMatchObject(refusal);
  await deleteVm(engine.context, one.id, fakeOperation().operation);
  expect((await create('two', 'lab')).address).toBe('10.213.90.2');
  expect(listAddresses(engine.context.db)).toHaveLength(1);
});

test('a VM does not start on the bridge of a network that has its addresses now, nor without a tap', async () => {
  setUpWith(bridge, preparedNetwork('lab', 89));
  await create('one', 'lab');
  const two = await create('two', 'lab');
  setUpWith(bridge, preparedNetwork('dev', 89));
  await expect(start(two)).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'VM "two" has 10.213.89.3 of network "lab", and this host was set up anew without that network',
  });
  setUpWith(bridge, preparedNetwork('lab', 89, { addresses: ['10.213.89.2'] }));
  await expect(start(two)).rejects.toMatchObject({ hint: 'Have more made: sudo banger host setup --taps 2' });
  expect(engine.specs).toEqual([]);
  setUpWith(bridge, preparedNetwork('lab', 89));
  await start(two);
  expect(engine.specs).toHaveLength(1);
});

test('whether VMs of a network reach each other is what was set up last', async () => {
  setUpWith({ ...bridge, isShared: true });
  const vm = await create('one', 'bridge');
  const isShared = () => listNetworks(engine.context.db)[0]!.isShared;
  expect(isShared()).toBe(true);
  setUpWith(bridge);
  await start(vm);
  expect(isShared()).toBe(false);
});

test('one that was set up is not deleted, and one that is no longer set up is', async () => {
  setUpWith(bridge, preparedNetwork('lab', 89));
  const { id } = await create('one', 'lab');
  await deleteVm(engine.context, id, fakeOperation().operation);
  const remove = () =>
    networkRoutes(engine.context)
      .find(({ method }) => method.name === 'network.delete')!
      .handle({ name: 'lab' }, fakeOperation().operation as never, undefined as never);
  await expect(remove()).rejects.toMatchObject({
    code: 'host_unsupported',
    hint: expect.stringContaining('sudo banger host teardown') as string,
  });
  setUpWith(bridge);
  await remove();
  expect(listNetworks(engine.context.db)).toEqual([]);
});
