import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { pauseVm } from '../../../src/engine/lifecycle/pause-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import {
  makeNetwork,
  planBridges,
  reconcileBridges,
  requireBridgeMeans,
} from '../../../src/engine/network/bridges.ts';
import { bridgeName } from '../../../src/host/network/plan.ts';
import { readOwnRights, vmUser } from '../../../src/host/drivers/qemu-confinement.ts';
import { chooseNumber } from '../../../src/host/network/subnets.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { listAddresses, listNetworks } from '../../../src/state/networks.ts';
import { listVms } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { setUpHost } from '../../support/host-setup.ts';

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
  const publish = (['tcp', 'udp'] as const).map((protocol) => ({
    protocol,
    bind: '127.0.0.1',
    guestPort: 53,
  }));
  const vm = await create('web', { start: true, publish });
  const { tap, user } = engine.specs[0]!.network;
  expect(tap).toMatchObject({ address: vm.address });
  // Datagrams are carried by the engine.
  expect(user).toMatchObject({
    reach: 'none',
    forwards: [{ guestPort: 1022 }, { guestPort: 53, protocol: 'tcp' }],
  });
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toContain(`ADDRESS=${vm.address}/24\n`);
  expect(initrd).toContain("ACCESS_ADDRESS=''\n");
});

test('Firecracker with rules has its tap held, and its guest no way out', async () => {
  engine.faults.driver = 'firecracker';
  const vm = await create('web', { start: true, egress: ['git.example.org'] });
  expect(planBridges(engine.context)[0]!.held).toEqual([vm.address]);
  expect(engine.rulesets.at(-1)).toMatch(/set held \{\s+type ifname\s+elements = \{ "bgt/);
  expect(engine.specs[0]!.network).toMatchObject({ tap: { address: vm.address }, user: { reach: 'none' } });
  const initrd = readFileSync(vmPaths(engine.context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toMatch(/^GATEWAY=''$/m);
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

test('one with rules is held at its tap and told of no way out, and let go and told of it when it runs', async () => {
  const { context, toolboxRuns } = engine;
  const vm = await create('web', { start: true, egress: ['git.example.org'] });
  const heldNow = () => planBridges(context)[0]!.held;
  expect(heldNow()).toEqual([vm.address]);
  const initrd = readFileSync(vmPaths(context.layout, vm.id).initrd, 'latin1');
  expect(initrd).toContain("GATEWAY=''\n");
  expect(toolboxRuns.at(-1)!.join(' ')).toContain('export https_proxy=http://127.0.0.1:1023');
  const gateway = vm.address!.replace(/\d+$/, '1');
  const changeTo = async (...egress: string[]) => {
    const params = { egress, removeLabels: [], publish: [], unpublish: [] };
    await setVm(context, { id: vm.id, params }, fakeOperation().operation);
  };
  // Whoever is connected to it stays so: it takes no --force.
  engine.faults.isBusy = true;
  await changeTo('all');
  expect([heldNow(), context.egress.state(vm.id)]).toEqual([[], undefined]);
  expect(toolboxRuns.at(-1)!.join(' ')).toContain(`route add default via ${gateway}`);
  await changeTo('none');
  expect(heldNow()).toEqual([vm.address]);
  expect(toolboxRuns.at(-1)!.join(' ')).toContain('route del default');
});

test('a change of what one reaches that is refused, or undone, leaves its tap as it was', async () => {
  const { context, faults, rulesets } = engine;
  const vm = await create('web', { start: true, egress: ['git.example.org'] });
  const holds = () => /set held \{\s+type ifname\s+elements/.test(rulesets.at(-1)!);
  const changeTo = (egress: string, more = {}) =>
    setVm(
      context,
      { id: vm.id, params: { egress: [egress], removeLabels: [], publish: [], unpublish: [], ...more } },
      fakeOperation().operation,
    );
  const disk = { diskBytes: vm.diskBytes + 2 ** 30 };
  faults.control = new Error('the disk does not grow');
  await expect(changeTo('all', disk)).rejects.toThrow('does not grow');
  expect([holds(), context.egress.state(vm.id) === undefined]).toEqual([true, false]);
  faults.control = undefined;
  await changeTo('all');
  expect(holds()).toBe(false);
  faults.control = new Error('the disk does not grow');
  await expect(changeTo('none', disk)).rejects.toThrow('does not grow');
  expect([holds(), context.egress.state(vm.id)]).toEqual([false, undefined]);
  faults.control = undefined;
  await changeTo('none');
  await pauseVm(context, vm.id, fakeOperation().operation);
  const made = rulesets.length;
  await expect(changeTo('all')).rejects.toThrow('is paused');
  expect([holds(), rulesets.length]).toEqual([true, made]);
});

test('guests of a network whose guests reach each other are told to go to those past the proxy', async () => {
  const { context, toolboxRuns } = engine;
  await makeNetwork(context, { name: 'lab', isShared: true });
  const vm = await create('web', { start: true, network: 'lab', egress: ['none'] });
  const subnet = vm.address!.replace(/\d+$/, '0/24');
  expect(toolboxRuns.at(-1)!.join(' ')).toMatch(`no_proxy=localhost,127.0.0.1,::1,.vm,${subnet}`);
});

test('on a host that was set up, one with rules has the tap that holds it, and changes over by a start only', async () => {
  const { owner } = setUpHost(engine, { hasHeldTaps: true });
  const held = await create('held', { start: true, egress: ['git.example.org'] });
  const free = await create('free', { start: true });
  expect(engine.specs.map(({ network }) => network.tap!.tap)).toEqual([
    `bgh${owner.tag}-7-2`,
    `bgt${owner.tag}-7-3`,
  ]);
  const change = (id: string, ...egress: string[]) => {
    const params = { egress, removeLabels: [], publish: [], unpublish: [] };
    return setVm(engine.context, { id, params }, fakeOperation().operation);
  };
  await expect(change(held.id, 'all')).rejects.toMatchObject({ code: 'invalid_state' });
  await expect(change(free.id, 'none')).rejects.toThrow('only a start takes it from "all" to rules or back');
  await change(held.id, 'none');
  await stopVm(engine.context, { id: held.id, timeoutMs: 0 }, fakeOperation().operation);
  await change(held.id, 'all');
  await startVm(engine.context, held.id, fakeOperation().operation);
  expect(engine.specs.at(-1)!.network.tap!.tap).toBe(`bgt${owner.tag}-7-2`);
});

test('on a host that was set up, no VM takes an address that one of another state directory is on', async () => {
  const { owner } = setUpHost(engine, { hasHeldTaps: true });
  const open = new Set<string>();
  const { exec } = engine.context;
  Object.assign(engine.context, {
    exec: async (...[argv, options]: Parameters<typeof exec>) => {
      if (argv[0] !== 'ip' || !argv.includes('address')) return exec(argv, options);
      const links = [2, 3].flatMap((last) => [`bgt${owner.tag}-7-${last}`, `bgh${owner.tag}-7-${last}`]);
      const shown = links.map((ifname) => ({
        ifname,
        flags: open.has(ifname) ? ['UP', 'LOWER_UP'] : ['UP'],
      }));
      return { exitCode: 0, stdout: Buffer.from(JSON.stringify(shown)), stderr: '' };
    },
  });
  // By the other tap than that which this VM would have.
  open.add(`bgh${owner.tag}-7-2`);
  const vm = await create('web', { start: true });
  expect(last(vm.address)).toBe(3);
  await stopVm(engine.context, { id: vm.id, timeoutMs: 0 }, fakeOperation().operation);
  open.add(`bgt${owner.tag}-7-3`);
  await expect(startVm(engine.context, vm.id, fakeOperation().operation)).rejects.toMatchObject({
    code: 'busy',
    message: expect.stringContaining('10.213.7.3 of network "bridge" is in use') as string,
  });
  expect(engine.specs).toHaveLength(1);
});

test('on a host that an older banger set up, one with rules is refused, and others are made', async () => {
  setUpHost(engine);
  await expect(create('held', { egress: ['none'] })).rejects.toMatchObject({
    code: 'host_unsupported',
    hint: expect.stringMatching(/: sudo banger host setup$/) as string,
  });
  await create('free');
  expect(listVms(engine.context.db).map(({ name }) => name)).toEqual(['free']);
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

test('a network of others that comes to overlap keeps no VM from going, and none from its rules; new bridges are refused', async () => {
  const { context, rulesets } = engine;
  const { exec } = context;
  let routes: { dst: string; dev: string }[] = [];
  Object.assign(context, {
    exec: async (...[argv, options]: Parameters<typeof exec>) =>
      argv[0] === 'ip' && argv.includes('route')
        ? { exitCode: 0, stdout: Buffer.from(JSON.stringify(routes)), stderr: '' }
        : exec(argv, options),
  });
  await makeNetwork(context, { name: 'lab', isShared: true });
  const [one, two, idle] = [
    await create('one', { start: true }),
    await create('two', { start: true }),
    await create('idle', { network: 'lab' }),
  ];
  const { owner } = requireBridgeMeans(context);
  const [bridge] = planBridges(context).filter(({ guests }) => guests.includes(one.address!));
  routes = [
    { dst: bridge!.subnet, dev: bridgeName(owner, bridge!.number) },
    { dst: '10.0.0.0/8', dev: 'tun0' },
  ];
  const params = { egress: ['none'], removeLabels: [], publish: [], unpublish: [] };
  await setVm(context, { id: one.id, params }, fakeOperation().operation);
  expect(rulesets.at(-1)).toMatch(/set held \{\s+type ifname\s+elements/);
  await remove(two.id);
  expect(rulesets.at(-1)).not.toContain(two.address);
  await create('three', { start: true });
  await expect(startVm(context, idle.id, fakeOperation().operation)).rejects.toMatchObject({
    code: 'host_unsupported',
    message: expect.stringContaining('are used by "tun0" (10.0.0.0/8)') as string,
  });
  // No interface of it is made, whoever else asks.
  expect(rulesets.at(-1)).not.toContain(idle.address);
  // As an engine that starts after rules were flushed.
  const made = rulesets.length;
  await reconcileBridges(context);
  expect(rulesets.slice(made)).toEqual([expect.stringContaining(one.address!)]);
});

test('addresses that the host has a route to are not chosen', () => {
  const number = chooseNumber({ tag: '0000' }, () => false, [{ subnet: '10.213.0.0/22', device: 'tun0' }]);
  expect(number).toBe(4);
  expect(
    chooseNumber({ tag: '0000' }, () => false, [{ subnet: '10.0.0.0/8', device: 'tun0' }]),
  ).toBeUndefined();
});
