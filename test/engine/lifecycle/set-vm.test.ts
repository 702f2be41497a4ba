import { createServer } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { setVm, type SetVmParams } from '../../../src/engine/lifecycle/set-vm.ts';
import { watchVmm } from '../../../src/engine/lifecycle/vmm-watch.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { reconcile } from '../../../src/engine/reconciler.ts';
import { viewVm } from '../../../src/engine/vm-view.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { changeVm, getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;
let vm: Vm;

const operation = () => fakeOperation().operation;
const create = (name: string) =>
  createVm(engine.context, { name, start: true, ephemeral: false }, operation());
const set = (params: Partial<SetVmParams>, id = vm.id) =>
  setVm(
    engine.context,
    { id, params: { removeLabels: [], publish: [], unpublish: [], ...params } },
    operation(),
  );
const row = () => getVm(engine.context.db, vm.id);
const loopback = (hostPort: number, guestPort: number) =>
  ({ protocol: 'tcp', bind: '127.0.0.1', hostPort, guestPort }) as const;
/** What leads into the guest, our own SSH left out */
const forwards = () => engine.machines.get(vm.id)!.forwards.filter(({ guestPort }) => guestPort !== 1022);

beforeEach(async () => {
  engine = fakeEngine();
  vm = await create('web');
});
afterEach(() => engine.close());

test('processors and memory of a running VM wait for its next start; of a stopped one they hold', async () => {
  const running = await set({ cpus: vm.cpus + 1, memoryMib: 256, labels: { app: 'x' } });
  expect(running).toMatchObject({ applied: ['labels'], atNextStart: ['cpus', 'memoryMib'] });
  expect(viewVm(engine.context, row())).toMatchObject({
    memoryMib: 128,
    pending: { cpus: vm.cpus + 1, memoryMib: 256 },
  });
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  expect(await set({ memoryMib: 300 })).toMatchObject({ applied: ['memoryMib'], atNextStart: [] });
  expect(viewVm(engine.context, row())).toMatchObject({ memoryMib: 300, pending: undefined });
});

test('a disk grows, and never shrinks', async () => {
  expect(await set({ diskBytes: vm.diskBytes * 2 })).toMatchObject({ applied: ['diskBytes'] });
  expect(engine.machines.get(vm.id)!.diskBytes).toBe(vm.diskBytes * 2);
  await expect(set({ diskBytes: vm.diskBytes })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining('cannot become smaller') as string,
  });
});

test('a guest that does not answer gets its host name at the next start', async () => {
  engine.faults.connect = new Error('no answer');
  expect(await set({ name: 'shop' })).toMatchObject({ applied: ['name'], atNextStart: ['hostname'] });
  expect(viewVm(engine.context, row())).toMatchObject({ name: 'shop', pending: { hostname: 'shop' } });
});

test('a name that is taken changes nothing', async () => {
  await create('db');
  await expect(set({ name: 'db', labels: { a: '1' } })).rejects.toMatchObject({ code: 'already_exists' });
  expect(row()).toMatchObject({ name: 'web', labels: {} });
});

test('of many who want one name, one gets it', async () => {
  const others = await Promise.all(['a', 'b', 'c'].map(create));
  const settled = await Promise.allSettled(others.map(({ id }) => set({ name: 'wanted' }, id)));
  expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

test('ports come and go while the VM runs', async () => {
  const [one, other] = [await findFreePort(), await findFreePort()];
  await set({ publish: [loopback(one, 80)] });
  expect(forwards()).toEqual([expect.objectContaining(loopback(one, 80))]);
  await set({ publish: [loopback(other, 81)], unpublish: [{ protocol: 'tcp', hostPort: one }] });
  expect(forwards()).toEqual([expect.objectContaining(loopback(other, 81))]);
  await expect(set({ unpublish: [{ protocol: 'tcp', hostPort: one }] })).rejects.toMatchObject({
    code: 'not_found',
  });
});

test('a port that is taken away by all that was published is that one, or none', async () => {
  const port = await findFreePort();
  await set({ publish: [loopback(port, 80)] });
  const name = { protocol: 'tcp', hostPort: port } as const;
  for (const [more, words] of [
    [{ bind: '0.0.0.0', guestPort: 80 }, `0.0.0.0:${port}:80/tcp`],
    [{ guestPort: 81 }, `${port}:81/tcp`],
  ] as const)
    await expect(set({ unpublish: [{ ...name, ...more }] })).rejects.toThrow(
      `VM "web" has not published port ${words}: it leads from 127.0.0.1 to 80`,
    );
  expect(forwards()).toHaveLength(1);
  await set({ unpublish: [{ ...name, bind: '127.0.0.1', guestPort: 80 }] });
  expect(forwards()).toEqual([]);
});

test('a port that is published at one address is opened to all by asking for that', async () => {
  const port = await findFreePort();
  await set({ publish: [loopback(port, 80)] });
  const wide = { ...loopback(port, 80), bind: '0.0.0.0' };
  await set({ publish: [wide] });
  expect(forwards()).toEqual([expect.objectContaining(wide)]);
  await set({ publish: [loopback(port, 80)] });
  expect(forwards()).toEqual([expect.objectContaining(loopback(port, 80))]);
});

test('a port is one VM’s, also when the other wants it on all addresses', async () => {
  const port = await findFreePort();
  await set({ publish: [loopback(port, 80)] });
  const db = await create('db');
  const wide = { ...loopback(port, 80), bind: '0.0.0.0' };
  await expect(set({ publish: [wide] }, db.id)).rejects.toMatchObject({ code: 'already_exists' });
});

test('of a port that a running VM has it is said that it has it, to that one, too', async () => {
  const port = await findFreePort();
  const { id } = await create('db');
  const vmm = createServer();
  await new Promise<void>((done) => vmm.listen(port, '127.0.0.1', done));
  try {
    await expect(set({ publish: [loopback(port, 80)] })).rejects.toMatchObject({
      message: `Port 127.0.0.1:${port}/tcp is taken by another program`,
    });
    changeVm(engine.context.db, id, { ports: [{ ...loopback(port, 80), chosen: false }] });
    for (const one of [vm.id, id])
      await expect(set({ publish: [loopback(port, 81)] }, one)).rejects.toMatchObject({
        message: `Port 127.0.0.1:${port}/tcp belongs to VM "db"`,
        hint: expect.stringMatching(/: banger vm set db --unpublish \d+$/) as string,
      });
  } finally {
    await new Promise((done) => vmm.close(done));
  }
});

test('what the VMM refuses takes everything back', async () => {
  engine.faults.addForward = new Error('taken');
  const params = { name: 'shop', publish: [loopback(await findFreePort(), 80)] };
  await expect(set(params)).rejects.toThrow('taken');
  expect(row()).toMatchObject({ name: 'web', ports: [] });
  engine.faults.control = new Error('no answer');
  await expect(set({ name: 'shop', diskBytes: vm.diskBytes * 2 })).rejects.toThrow('no answer');
  expect(row()).toMatchObject({ name: 'web', diskBytes: vm.diskBytes });
});

test('an engine that died before a recorded port was published is made up for by the next', async () => {
  const hostPort = await findFreePort();
  changeVm(engine.context.db, vm.id, { ports: [{ ...loopback(hostPort, 80), chosen: false }] });
  await reconcile({ ...engine.context, controls: new Map() });
  expect(forwards()).toEqual([expect.objectContaining(loopback(hostPort, 80))]);
});

test('a port that a VMM cannot be told of is refused, and the row stays as it is', async () => {
  engine.context.controls.clear();
  const port = await findFreePort();
  await expect(set({ publish: [loopback(port, 80)] })).rejects.toMatchObject({ code: 'command_failed' });
  expect(row().ports).toEqual([]);
  expect(forwards()).toEqual([]);
});

test('a VMM whose connection was lost and is back has the ports that its row says', async () => {
  const port = await findFreePort();
  const driver = engine.context.driver('qemu');
  let opened = 0;
  const control: typeof driver.control = async (vmm) => {
    const real = await driver.control(vmm);
    if (++opened > 1) return real;
    changeVm(engine.context.db, vm.id, { ports: [{ ...loopback(port, 80), chosen: false }] });
    return { ...real, closed: Promise.resolve(undefined) };
  };
  const context = { ...engine.context, controls: new Map(), driver: () => ({ ...driver, control }) };
  watchVmm(context, vm, { exitTimeoutMs: 20 });
  await vi.waitFor(() => expect(forwards()).toEqual([expect.objectContaining(loopback(port, 80))]), 10_000);
});
