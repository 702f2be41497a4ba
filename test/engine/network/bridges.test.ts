import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { planBridges } from '../../../src/engine/network/bridges.ts';
import { readOwnRights, vmUser } from '../../../src/host/drivers/qemu-confinement.ts';
import { chooseNumber } from '../../../src/host/network/subnets.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { listAddresses, listNetworks } from '../../../src/state/networks.ts';
import { listVms } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

const create = (name: string, extra = {}) =>
  createVm(
    engine.context,
    { name, network: 'bridge', start: false, ephemeral: false, ...extra },
    fakeOperation().operation,
  );
const remove = (id: string) => deleteVm(engine.context, id, fakeOperation().operation);
const last = (address: string | undefined) => Number(address?.split('.').at(-1));

test('VMs made at once get addresses of their own, lowest first, and the network is made once', async () => {
  const vms = await Promise.all(['a', 'b', 'c', 'd'].map((name) => create(name)));
  expect(vms.map(({ address }) => last(address)).sort()).toEqual([2, 3, 4, 5]);
  expect(listNetworks(engine.context.db)).toHaveLength(1);
});

test('an address is released with its VM, and given to the next', async () => {
  const [one, two] = [await create('one'), await create('two')];
  await remove(one.id);
  expect(listAddresses(engine.context.db).map(({ vmId }) => vmId)).toEqual([two.id]);
  expect((await create('three')).address).toBe(one.address);
});

test('a VM that cannot be made leaves no address taken', async () => {
  engine.faults.disk = new Error('no disk');
  await expect(create('one')).rejects.toThrow('no disk');
  // What failed takes the way of every program, so that the undo fails too, and the row keeps what it names.
  expect(listVms(engine.context.db)).toHaveLength(listAddresses(engine.context.db).length);
  engine.faults.disk = undefined;
  for (const { id } of listVms(engine.context.db)) await remove(id);
  expect(listAddresses(engine.context.db)).toEqual([]);
});

test('its VMM opens the tap of its address, and lets us and published ports in beside it', async () => {
  const publish = [{ protocol: 'tcp' as const, bind: '127.0.0.1', guestPort: 80 }];
  const vm = await create('web', { start: true, publish });
  const { tap, user } = engine.specs[0]!.network;
  expect(tap!.tap).toMatch(new RegExp(`^bgt[0-9a-f]{4}-\\d+-${last(vm.address)}$`));
  expect(user).toMatchObject({ reach: 'none', forwards: [{ guestPort: 1022 }, { guestPort: 80 }] });
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toContain(`ADDRESS=${vm.address}/24\n`);
  expect(initrd).toContain(`MAC=${tap!.mac}\n`);
  expect(initrd).toContain('ACCESS_ADDRESS=169.254.77.15/24\n');
});

test('Firecracker opens that tap, and has a way in to the address on it instead of a second card', async () => {
  engine.faults.driver = 'firecracker';
  const publish = [{ protocol: 'udp' as const, bind: '127.0.0.1', guestPort: 53 }];
  const vm = await create('web', { start: true, publish });
  const { tap, user } = engine.specs[0]!.network;
  expect(tap).toMatchObject({ address: vm.address });
  expect(user).toMatchObject({ reach: 'none', forwards: [{ guestPort: 1022 }, { guestPort: 53 }] });
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toContain(`ADDRESS=${vm.address}/24\n`);
  expect(initrd).toContain("ACCESS_ADDRESS=''\n");
});

test.runIf(process.getuid!() === 0)('a tap is for its VM’s own user, where root makes both', async () => {
  const vm = await create('one');
  expect(planBridges(engine.context)[0]!.tapUsers).toEqual({
    [vm.address!]: vmUser(vm.id, readOwnRights()) ?? expect.anything(),
  });
});

test('two taps wait for the next VMs, and none when there are no VMs', async () => {
  const vm = await create('one');
  expect(planBridges(engine.context)).toMatchObject([{ guests: [vm.address], isShared: false }]);
  expect(planBridges(engine.context)[0]!.spare.map(last)).toEqual([3, 4]);
  await remove(vm.id);
  expect(planBridges(engine.context)).toEqual([]);
});

test('packets are forwarded while there are VMs behind a bridge, and not before and after', async () => {
  const forwards = () => readFileSync(join(engine.context.layout.configFile, '../ip_forward'), 'utf8').trim();
  const vm = await create('one', { start: true });
  expect(forwards()).toBe('1');
  await remove(vm.id);
  expect(forwards()).toBe('0');
});

test('without rights, and without a host that was set up, it is said what to do', async () => {
  engine.faults.isUnprivileged = true;
  await expect(create('one')).rejects.toMatchObject({
    code: 'host_unsupported',
    hint: 'Set up the host for your user once: sudo banger host setup',
  });
  expect(listVms(engine.context.db)).toEqual([]);
});

test('addresses that the host has a route to are not chosen', () => {
  const number = chooseNumber({ tag: '0000' }, () => false, [{ subnet: '10.213.0.0/22', device: 'tun0' }]);
  expect(number).toBe(4);
  expect(
    chooseNumber({ tag: '0000' }, () => false, [{ subnet: '10.0.0.0/8', device: 'tun0' }]),
  ).toBeUndefined();
});
