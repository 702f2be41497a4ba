import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import type { VmmChoice } from '../../../src/host/vmm-choice.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { killVm } from '../../../src/engine/lifecycle/kill-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { waitForVm } from '../../../src/engine/lifecycle/wait-vm.ts';
import { isAlive, killProcess } from '../../../src/host/process.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { findVm, getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, unreachable, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
let vm: Vm;

beforeEach(async () => {
  engine = fakeEngine();
  vm = await createTestVm(engine);
});
afterEach(() => engine.close());

const operation = () => fakeOperation().operation;
const stop = () => stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());

test('a guest that powers off is stopped, flushed, and forgotten', async () => {
  expect(await stop()).toMatchObject({ flushed: true, vm: { state: 'stopped', lastError: undefined } });
  expect(engine.context.handles.get(vm.id)).toBeUndefined();
  expect(existsSync(vmPaths(engine.context.layout, vm.id).handles)).toBe(false);
});

test('a guest that does not answer is killed, and the loss is told', async () => {
  engine.faults.connect = unreachable;
  expect(await stop()).toMatchObject({ flushed: false, vm: { state: 'stopped' } });
  expect(getVm(engine.context.db, vm.id).lastError).toContain('was killed');
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
});

test('a guest that answers only its power button has flushed, since its own shutdown does', async () => {
  engine.faults.connect = unreachable;
  engine.faults.onPowerButton = async (machine, vmm) => {
    machine.end = 'power-off';
    await killProcess(vmm);
  };
  expect(await stop()).toMatchObject({ flushed: true, vm: { state: 'stopped', lastError: undefined } });
});

test.each([undefined, 'panic', 'reset'] as const)(
  'a VMM that ends while its guest is asked to flush (%s) has not flushed, and that is told',
  async (end) => {
    engine.faults.connect = unreachable;
    engine.faults.onPowerButton = async (machine, vmm) => {
      machine.end = end;
      await killProcess(vmm);
    };
    expect(await stop()).toMatchObject({
      flushed: false,
      vm: {
        state: 'stopped',
        lastError: 'The VMM ended before the guest had flushed its disks; what it had not written is lost',
      },
    });
    delete engine.faults.connect;
    expect((await startVm(engine.context, vm.id, operation())).state).toBe('running');
  },
);

test('stopping twice is stopping once', async () => {
  const [one, other] = await Promise.all([stop(), stop()]);
  expect([one.vm.state, other.vm.state]).toEqual(['stopped', 'stopped']);
});

test('a stopped VM starts again, and one that runs is left alone', async () => {
  await stop();
  expect((await startVm(engine.context, vm.id, operation())).state).toBe('running');
  const process = engine.vmms.get(vm.id);
  await startVm(engine.context, vm.id, operation());
  expect(engine.vmms.get(vm.id)).toBe(process);
});

test('a start that fails leaves the VM stopped, with the reason and without a VMM', async () => {
  await stop();
  engine.faults.console = 'banger-error stage=root it is broken\n';
  await expect(startVm(engine.context, vm.id, operation())).rejects.toThrow('it is broken');
  expect(getVm(engine.context.db, vm.id)).toMatchObject({
    state: 'stopped',
    lastError: expect.stringContaining('it is broken') as string,
  });
  expect(engine.context.handles.get(vm.id)).toBeUndefined();
});

test('a VMM that is killed from outside is noticed', async () => {
  await killProcess(engine.vmms.get(vm.id)!);
  await vi.waitFor(() => expect(getVm(engine.context.db, vm.id).state).toBe('stopped'), { timeout: 10_000 });
  expect(getVm(engine.context.db, vm.id).lastError).toContain('ended by itself');
  expect(engine.log.filter((line) => line.includes('failed'))).toEqual([]);
});

test('killing ends the VMM at once', async () => {
  expect((await killVm(engine.context, vm.id, operation())).state).toBe('stopped');
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
});

test('deleting ends a running VM and leaves nothing; twice is once', async () => {
  await Promise.all([
    deleteVm(engine.context, vm.id, operation()),
    deleteVm(engine.context, vm.id, operation()),
  ]);
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
  expect(existsSync(vmPaths(engine.context.layout, vm.id).directory)).toBe(false);
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
});

test('when something of it cannot be removed, the row stays for the reconciler, and the rest is gone', async () => {
  // A socket's path that turned into a directory with something in it is not ours to remove.
  mkdirSync(join(vm.controlSocket, 'kept'), { recursive: true });
  await expect(deleteVm(engine.context, vm.id, operation())).rejects.toThrow();
  expect(findVm(engine.context.db, vm.id)?.state).toBe('deleting');
  expect(existsSync(vmPaths(engine.context.layout, vm.id).disk('qcow2'))).toBe(false);
  rmSync(vm.controlSocket, { recursive: true });
  await deleteVm(engine.context, vm.id, operation());
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
});

test('of two starts at once, one boots the VM, and the other reports it', async () => {
  await stop();
  const [one, other] = await Promise.all([
    startVm(engine.context, vm.id, operation()),
    startVm(engine.context, vm.id, operation()),
  ]);
  expect([one.state, other.state]).toEqual(['running', 'running']);
  expect(engine.specs).toHaveLength(2);
  expect([...engine.vmms.values()].filter(isAlive)).toHaveLength(1);
});

test('what is asked of one VM at once is done one after the other, in the order it was asked', async () => {
  const ended: string[] = [];
  const note = (what: string) => () => void ended.push(what);
  await Promise.all([
    stop().then(note('stop')),
    startVm(engine.context, vm.id, operation()).then(note('start')),
    killVm(engine.context, vm.id, operation()).then(note('kill')),
    deleteVm(engine.context, vm.id, operation()).then(note('delete')),
  ]);
  expect(ended).toEqual(['stop', 'start', 'kill', 'delete']);
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
});

test('whoever waits for a VM can be cancelled, and the verb under way goes on', async () => {
  const gate = Promise.withResolvers<VmmChoice>();
  await stop();
  const first = startVm({ ...engine.context, chooseVmm: () => gate.promise }, vm.id, operation());
  const { operation: waiting, cancel } = fakeOperation();
  const second = deleteVm(engine.context, vm.id, waiting);
  cancel();
  await expect(second).rejects.toMatchObject({ code: 'cancelled' });
  gate.resolve(await engine.context.chooseVmm({ network: 'user', disk: 'qcow2', cpus: 1 }));
  expect((await first).state).toBe('running');
});

test('who waits for a month for a VM to stop is not told at once that it did not', async () => {
  const month = { vm: vm.name, for: 'stopped', timeoutMs: 30 * 86_400_000 } as const;
  const [waited] = await Promise.all([waitForVm(engine.context, month, operation()), stop()]);
  expect(waited.state).toBe('stopped');
});

test.each([
  ['killed', () => killVm(engine.context, vm.id, operation())],
  ['deleted', () => deleteVm(engine.context, vm.id, operation())],
])('a VM that somebody stops with all patience can be %s at once, and the stop says so', async (_, end) => {
  engine.faults.connect = unreachable;
  const button = Promise.withResolvers<void>();
  engine.faults.onPowerButton = async () => button.resolve();
  const stopping = stopVm(engine.context, { id: vm.id, timeoutMs: 3_600_000 }, operation());
  await button.promise;
  await end();
  expect(await stopping).toMatchObject({
    flushed: false,
    vm: {
      lastError:
        'Another command killed it before the guest had flushed its disks; what it had not written is lost',
    },
  });
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
});

test('a kill also passes stops that wait before it, and takes nothing from what was flushed', async () => {
  engine.faults.powersOffLater = true;
  const stops = [1, 2].map(() => stopVm(engine.context, { id: vm.id, timeoutMs: 3_600_000 }, operation()));
  await killVm(engine.context, vm.id, operation());
  expect(await Promise.all(stops)).toMatchObject([
    { vm: { lastError: undefined } },
    { vm: { state: 'stopped' } },
  ]);
});
