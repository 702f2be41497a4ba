import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { HandleCache } from '../../../src/engine/handles.ts';
import { createVm } from '../../../src/engine/lifecycle/create-vm.ts';
import { requireRunning } from '../../../src/engine/lifecycle/exec-vm.ts';
import { pauseVm, resumeVm } from '../../../src/engine/lifecycle/pause-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { reconcile } from '../../../src/engine/reconciler.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { getVm, moveVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine, type FakeMachine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';

let engine: FakeEngine;
let vm: Vm;
let machine: FakeMachine;

const operation = () => fakeOperation().operation;
const pause = () => pauseVm(engine.context, vm.id, operation());
const resume = () => resumeVm(engine.context, vm.id, operation());
const state = () => getVm(engine.context.db, vm.id).state;

beforeEach(async () => {
  engine = fakeEngine();
  vm = await createVm(engine.context, { name: 'web', start: true, ephemeral: false }, operation());
  machine = engine.machines.get(vm.id)!;
});
afterEach(() => engine.close());

test('a paused guest stands still until it is resumed; each twice is once', async () => {
  await pause();
  expect([(await pause()).state, machine.activity]).toEqual(['paused', 'paused']);
  await resume();
  expect([(await resume()).state, machine.activity]).toEqual(['running', 'running']);
});

test('a guest that was paused is told the time', async () => {
  await pause();
  await resume();
  const script = expect.stringContaining('date -u -s "@$1"') as string;
  expect(engine.toolboxRuns).toEqual([['sh', '-c', script, 'sh', expect.stringMatching(/^\d{10}$/), '2']]);
});

test('what a paused VM cannot do is refused with the way out', async () => {
  await pause();
  const hint = 'Let it go on with: banger vm resume web';
  expect(() => requireRunning(getVm(engine.context.db, vm.id))).toThrow(expect.objectContaining({ hint }));
  await expect(startVm(engine.context, vm.id, operation())).rejects.toMatchObject({
    code: 'invalid_state',
    hint,
  });
});

test('a VM that does not run is neither paused nor resumed', async () => {
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  const stopped = { code: 'invalid_state', hint: 'Start it with: banger vm start web' };
  await expect(pause()).rejects.toMatchObject(stopped);
  await expect(resume()).rejects.toMatchObject(stopped);
});

test('a VMM that does not do it leaves the state as it was', async () => {
  engine.faults.control = new Error('no answer');
  await expect(pause()).rejects.toThrow('no answer');
  expect(state()).toBe('running');
});

test('a paused VM is stopped with its disks flushed', async () => {
  await pause();
  const { flushed } = await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  expect([flushed, machine.activity, state()]).toEqual([true, 'running', 'stopped']);
});

test.each([
  ['paused', 'running'],
  ['running', 'paused'],
] as const)('a VM that is %s while the row says %s is found out by the next engine', async (real, said) => {
  machine.activity = real;
  if (said === 'paused') moveVm(engine.context.db, vm.id, 'paused');
  const handles = new HandleCache((id) => vmPaths(engine.context.layout, id).handles);
  await reconcile({ ...engine.context, handles, controls: new Map() });
  expect(state()).toBe(real);
});

test.each([
  ['disk-full', 'disk is full'],
  ['disk-failed', 'did not take a write'],
] as const)('a guest that QEMU stops at a write (%s) is paused, and says why', async (activity, why) => {
  machine.activity = activity;
  for (const listener of machine.listeners) listener();
  await vi.waitFor(() => expect(state()).toBe('paused'), 30_000);
  expect(getVm(engine.context.db, vm.id).lastError).toContain(why);
  await resume();
  expect(getVm(engine.context.db, vm.id).lastError).toBeUndefined();
});

test('one that is stopped at a write again as soon as it goes on is no success', async () => {
  machine.activity = 'disk-full';
  for (const listener of machine.listeners) listener();
  await vi.waitFor(() => expect(state()).toBe('paused'), 30_000);
  const context = {
    ...engine.context,
    guest: async () => {
      machine.activity = 'disk-full';
      throw new Error('it does not answer');
    },
  };
  await expect(resumeVm(context, vm.id, operation())).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'VM "web" has gone on, and was paused again at once',
    hint: expect.stringContaining('disk is full') as string,
  });
  expect(state()).toBe('paused');
});
