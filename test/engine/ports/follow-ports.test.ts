import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { setVm, type SetVmParams } from '../../../src/engine/lifecycle/set-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { followPorts, publishablePorts } from '../../../src/engine/ports/follow-ports.ts';
import { getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
let vm: Vm;
beforeEach(async () => {
  engine = fakeEngine();
  vm = await createTestVm(engine, { publishAll: true });
});
afterEach(() => engine.close());

const follow = (...ports: number[]) => followPorts(engine.context, vm.id, ports);
const ports = () => getVm(engine.context.db, vm.id).ports;
const guestPorts = () => ports().map(({ guestPort }) => guestPort);
const operation = () => fakeOperation().operation;
/** What leads into the guest besides our own SSH, by the guest's ports. */
const forwarded = () =>
  engine.machines
    .get(vm.id)!
    .forwards.map(({ guestPort }) => guestPort)
    .filter((port) => port !== 1022)
    .toSorted((one, other) => one - other);

test('ports come with listeners and go with them, on the loopback', async () => {
  await follow(3000, 5432);
  expect([guestPorts(), forwarded()]).toEqual([
    [3000, 5432],
    [3000, 5432],
  ]);
  expect(ports()[0]).toMatchObject({ bind: '127.0.0.1', protocol: 'tcp', followed: true });
  const before = ports();
  await follow(5432, 8000);
  expect([guestPorts(), forwarded()]).toEqual([
    [5432, 8000],
    [5432, 8000],
  ]);
  // One that stays keeps its place.
  expect(ports()[0]).toEqual(before[1]);
  await follow();
  expect([ports(), forwarded()]).toEqual([[], []]);
});

test('the host has the same number if that is free, 80 as 8080, and else another one', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port: taken } = other.address() as AddressInfo;
  await follow(taken);
  expect(ports()[0]!.hostPort).not.toBe(taken);
  other.close();
});

test('what is published by hand stays, and is not published twice', async () => {
  const change = {
    removeLabels: [],
    unpublish: [],
    publish: [{ protocol: 'tcp', bind: '127.0.0.1', guestPort: 3000 }],
  } as const;
  await setVm(engine.context, { id: vm.id, params: change }, operation());
  await follow(3000, 4000);
  expect(guestPorts()).toEqual([3000, 4000]);
  await follow();
  expect(guestPorts()).toEqual([3000]);
});

describe('a port that follows a listener and is asked for by hand', () => {
  let hostPort: number;
  let vmm: Server;
  beforeEach(async () => {
    await follow(3000);
    hostPort = ports()[0]!.hostPort;
    // Our own forward listens there, as a VMM does.
    vmm = createServer();
    await new Promise<void>((resolve) => vmm.listen(hostPort, '127.0.0.1', resolve));
  });
  afterEach(() => void vmm.close());

  const place = { protocol: 'tcp', bind: '127.0.0.1' } as const;
  const set = (change: Partial<SetVmParams>) =>
    setVm(
      engine.context,
      { id: vm.id, params: { removeLabels: [], unpublish: [], publish: [], ...change } },
      operation(),
    );

  test.each([true, false])('is one that stays (publishing all: %s)', async (publishAll) => {
    await set({ publish: [{ ...place, hostPort, guestPort: 3000 }], publishAll });
    expect(ports()).toEqual([{ ...place, hostPort, guestPort: 3000, chosen: false }]);
    await follow();
    expect([guestPorts(), forwarded()]).toEqual([[3000], [3000]]);
  });

  test('stays where it is when no port of the host is asked for', async () => {
    await set({ publish: [{ ...place, guestPort: 3000 }] });
    expect(ports()).toEqual([{ ...place, hostPort, guestPort: 3000, chosen: true }]);
  });

  test('gives its port of the host up when that is to lead elsewhere', async () => {
    await set({ publish: [{ ...place, hostPort, guestPort: 4000 }] });
    expect(ports()).toEqual([{ ...place, hostPort, guestPort: 4000, chosen: false }]);
    await follow(3000, 4000);
    expect(guestPorts()).toEqual([3000, 4000]);
    expect(forwarded()).toEqual([3000, 4000]);
  });
});

test('a VM that stops has none of them any more, and neither has its next start', async () => {
  await follow(3000);
  await stopVm(engine.context, { id: vm.id, timeoutMs: 1_000 }, operation());
  expect(ports()).toEqual([]);
  await startVm(engine.context, vm.id, operation());
  expect(forwarded()).toEqual([]);
});

test('a port that cannot be had costs no other one', async () => {
  await follow(3000);
  engine.faults.addForward = new Error('QEMU is busy');
  await expect(follow(3000, 4000)).rejects.toThrow('QEMU is busy');
  engine.faults.addForward = undefined;
  await follow(3000, 5000);
  expect(forwarded()).toEqual([3000, 5000]);
});

test('it is begun with and ended while a VM runs, and what was published by hand stays', async () => {
  const set = (publishAll: boolean, publish: { protocol: 'tcp'; bind: string; guestPort: number }[] = []) =>
    setVm(
      engine.context,
      { id: vm.id, params: { removeLabels: [], unpublish: [], publish, publishAll } },
      operation(),
    );
  await set(true, [{ protocol: 'tcp', bind: '127.0.0.1', guestPort: 9000 }]);
  await follow(3000);
  expect(guestPorts()).toEqual([3000, 9000]);
  expect(await set(false)).toMatchObject({ applied: expect.arrayContaining(['publishesAll']) as string[] });
  expect([guestPorts(), forwarded()]).toEqual([[9000], [9000]]);
  await follow(3000);
  expect(guestPorts()).toEqual([9000]);
  await set(true);
  await follow(3000);
  expect([guestPorts(), forwarded()]).toEqual([
    [3000, 9000],
    [3000, 9000],
  ]);
});

test('a VM that did not ask for it is left alone', async () => {
  const plain = await createTestVm(engine, { name: 'plain' });
  await followPorts(engine.context, plain.id, [3000]);
  expect(getVm(engine.context.db, plain.id).ports).toEqual([]);
});

test('of what a guest says, listeners that can be reached count, and no more than so many', () => {
  const row = (address: string, port: number, state = '0A'): string =>
    `0: ${address}:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 ${state}`;
  const any = '0'.repeat(32);
  const tables = `table tcp
${row('00000000', 80)}
${row('0F02000A', 81)}
${row('0100007F', 82)}
${row('00000000', 1022)}
${row('0100007F', 1023)}
${row('00000000', 83, '01')}
nonsense
table tcp6
${row(any, 80)}
${row(any, 3000)}
`;
  expect(publishablePorts(tables)).toEqual([80, 81, 3000]);
  const many = Array.from({ length: 5_000 }, (_, index) => row('00000000', 2_000 + index)).join('\n');
  expect(publishablePorts(`table tcp\n${many}\n`)).toHaveLength(64);
});
