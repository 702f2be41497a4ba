import { afterEach, beforeEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { networkRoutes } from '../../../src/engine/network/network-routes.ts';
import type { NetworkView } from '../../../src/engine/rpc/network-methods.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const call = (name: string, params: object = {}): Promise<unknown> =>
  networkRoutes(engine.context)
    .find(({ method }) => method.name === name)!
    .handle(params, fakeOperation().operation as never, undefined as never);
const names = async () => ((await call('network.list')) as NetworkView[]).map(({ name }) => name);

test('what is always there is listed first, then networks by name, with their VMs', async () => {
  await call('network.create', { name: 'web' });
  await call('network.create', { name: 'db' });
  expect(await names()).toEqual(['user', 'none', 'bridge', 'db', 'web']);
  const params = { name: 'one', network: 'db', start: false, ephemeral: false };
  const { address } = await createVm(engine.context, params, fakeOperation().operation);
  expect(await call('network.show', { name: 'db' })).toMatchObject({
    kind: 'bridge',
    isShared: true,
    vms: [{ name: 'one', address }],
  });
  await expect(call('network.delete', { name: 'db' })).rejects.toThrow('Network "db" is used by VM one');
  await call('network.delete', { name: 'web' });
  expect(await names()).toEqual(['user', 'none', 'bridge', 'db']);
});

test.each(['user', 'none', 'bridge', 'host'])('a network cannot be named "%s"', async (name) => {
  await expect(call('network.create', { name })).rejects.toMatchObject({ code: 'invalid_argument' });
});

test('what is always there cannot be deleted, and what is not there neither', async () => {
  await expect(call('network.delete', { name: 'bridge' })).rejects.toThrow('is always there');
  await expect(call('network.delete', { name: 'lab' })).rejects.toMatchObject({ code: 'not_found' });
  await expect(call('network.show', { name: 'lab' })).rejects.toMatchObject({ code: 'not_found' });
});
