import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import {
  movedPortNotes,
  planPorts,
  type PortRequest,
} from '../../../src/engine/lifecycle/published-ports.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { viewVm } from '../../../src/engine/vm-view.ts';
import { vmText } from '../../../src/commands/vm-text.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { getVm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine | undefined;
afterEach(() => engine?.close());

test('a port that was ours to choose is none that is promised to a VM that does not run', async () => {
  const promised = new Set<number>();
  const isOwned = ({ hostPort }: { hostPort: number }): boolean => {
    if (promised.size < 3) promised.add(hostPort);
    return promised.has(hostPort);
  };
  const [port] = await planPorts([{ protocol: 'tcp', bind: '127.0.0.1', guestPort: 80 }], { isOwned });
  expect(promised.size).toBe(3);
  expect(promised).not.toContain(port!.hostPort);
});

const loopback = { protocol: 'tcp', bind: '127.0.0.1', guestPort: 80 } as const;

/** Starts and stops one VM, whose ports another program may have meanwhile. */
async function publishing(request: PortRequest) {
  const made = (engine = fakeEngine());
  const { context } = made;
  const notes: string[] = [];
  const note = (text: string): void => {
    if (text.startsWith('Port ')) notes.push(text);
  };
  const operation = () => ({ ...fakeOperation().operation, note });
  const { id } = await createVm(
    context,
    { name: 'web', start: false, ephemeral: false, publish: [request] },
    operation(),
  );
  return {
    notes,
    start: () => startVm(context, id, operation()),
    stop: () => stopVm(context, { id, timeoutMs: 50 }, operation()),
    port: () => getVm(context.db, id).ports[0]!,
    shown: () => vmText(viewVm(context, getVm(context.db, id))),
  };
}

async function whileTaken(port: number, task: () => Promise<void>): Promise<void> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  await task().finally(() => new Promise((done) => server.close(done)));
}

test('a port that a tree wishes for is told at each start at which another program has it, and had again after', async () => {
  const wished = await findFreePort();
  const vm = await publishing({ ...loopback, hostPort: wished, prefersHostPort: true });
  expect(vm.port()).toMatchObject({ hostPort: wished, wished });
  await whileTaken(wished, async () => {
    await vm.start();
    const { hostPort } = vm.port();
    expect(hostPort).not.toBe(wished);
    const note = `Port ${wished} is taken here: port 80 of the VM is at 127.0.0.1:${hostPort}`;
    expect(vm.notes).toEqual([note]);
    expect(vm.shown()).toContain(`127.0.0.1:${hostPort}->80/tcp (${wished} was taken)`);
    await vm.stop();
    await vm.start();
    expect(vm.notes).toEqual([note, note]);
  });
  await vm.stop();
  vm.notes.length = 0;
  await vm.start();
  expect(vm.port().hostPort).toBe(wished);
  expect(vm.shown()).toMatch(new RegExp(`127.0.0.1:${wished}->80/tcp$`, 'm'));
  expect(vm.notes).toEqual([]);
});

test('one that was ours to choose and moves is told; one that the user named, and is taken, stops the start', async () => {
  const chosen = await publishing(loopback);
  const before = chosen.port().hostPort;
  await whileTaken(before, async () => void (await chosen.start()));
  const now = chosen.port().hostPort;
  expect(chosen.notes).toEqual([`Port ${before} is taken here: port 80 of the VM is at 127.0.0.1:${now}`]);
  await chosen.stop();
  await chosen.start();
  expect(chosen.port().hostPort).toBe(now);
  expect(chosen.notes).toHaveLength(1);
  await engine!.close();

  const hostPort = await findFreePort();
  const named = await publishing({ ...loopback, hostPort });
  await whileTaken(hostPort, async () => {
    await expect(named.start()).rejects.toMatchObject({
      code: 'busy',
      message: `Port 127.0.0.1:${hostPort}/tcp is taken by another program`,
    });
  });
  await named.start();
  expect(named.port().hostPort).toBe(hostPort);
});

test('of several ports into one of the guest that which moved is told', () => {
  const one = { ...loopback, hostPort: 1000, chosen: true };
  const two = { ...loopback, hostPort: 2000, chosen: true };
  expect(movedPortNotes([one, { ...two, hostPort: 3000 }], [one, two])).toEqual([
    'Port 2000 is taken here: port 80 of the VM is at 127.0.0.1:3000',
  ]);
  expect(movedPortNotes([one, two], [one, two])).toEqual([]);
});
