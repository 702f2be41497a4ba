import { mkdirSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createVm } from '../../src/engine/lifecycle/create-vm.ts';
import { HandleCache } from '../../src/engine/handles.ts';
import { StopTimers } from '../../src/engine/stop-timers.ts';
import { monotonicMs } from '../../src/host/clock.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { changeVm, getVm, type Vm } from '../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../support/fake-engine.ts';
import { fakeOperation } from '../support/fakes.ts';

let engine: FakeEngine;
const state = (vm: Vm) => getVm(engine.context.db, vm.id);
const create = (limits: { ttlMs?: number; idleStopMs?: number }): Promise<Vm> =>
  createVm(
    engine.context,
    { name: 'web', start: true, ephemeral: false, ...limits },
    fakeOperation().operation,
  );
const stopped = (vm: Vm) =>
  vi.waitFor(() => expect(state(vm).state).toBe('stopped'), { timeout: 10_000, interval: 10 });

beforeEach(() => {
  engine = fakeEngine();
});
afterEach(async () => {
  vi.useRealTimers();
  await engine.close();
});

test('a VM whose time to live is over is stopped, and says why', async () => {
  const vm = await create({ ttlMs: 50 });
  await stopped(vm);
  expect(state(vm).lastError).toBe('Its time to live of 50ms was over');
});

test('a VM that nobody uses is stopped', async () => {
  const vm = await create({ idleStopMs: 50 });
  await stopped(vm);
  expect(state(vm).lastError).toBe('Nobody had used it for 50ms');
});

test('a VM in which a program runs is in use, until it has ended', async () => {
  engine.faults.isBusy = true;
  const vm = await create({ idleStopMs: 30 });
  const activity = vi.spyOn(engine.context.guests, 'activity');
  await vi.waitFor(() => expect(activity.mock.calls.length).toBeGreaterThan(4), { timeout: 10_000 });
  expect(state(vm).state).toBe('running');
  engine.faults.isBusy = false;
  await stopped(vm);
});

test('the end of a time to live outlives the engine, and the clock on the wall does not move it', async () => {
  const vm = await create({ ttlMs: 3_600_000 });
  await vi.waitFor(() => expect(engine.context.handles.get(vm.id)?.expiresAtMs).toBeDefined(), 30_000);
  const { expiresAtMs } = engine.context.handles.get(vm.id)!;
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 86_400_000 });
  const handles = new HandleCache((id) => vmPaths(engine.context.layout, id).handles);
  handles.adopt(vm.id, (await handles.readFile(vm.id))!);
  const context = { ...engine.context, handles };
  const next = new StopTimers(() => context);
  await next.watch(vm);
  expect(handles.get(vm.id)!.expiresAtMs).toBe(expiresAtMs);
  expect(expiresAtMs! - monotonicMs()).toBeLessThanOrEqual(3_600_000);
  next.close();
  expect(state(vm).state).toBe('running');
});

test('a new time to live counts from now, and none stops nothing', async () => {
  const vm = await create({ ttlMs: 3_600_000 });
  await vi.waitFor(() => expect(engine.context.handles.get(vm.id)?.expiresAtMs).toBeDefined(), 30_000);
  await engine.context.stopTimers.change(changeVm(engine.context.db, vm.id, { ttlMs: null }), true);
  expect(engine.context.handles.get(vm.id)!.expiresAtMs).toBeUndefined();
  await engine.context.stopTimers.change(changeVm(engine.context.db, vm.id, { ttlMs: 30 }), true);
  await stopped(vm);
});

test('a time to live that cannot be written down holds all the same', async () => {
  const vm = await create({});
  const { handles } = vmPaths(engine.context.layout, vm.id);
  // As a full disk does: nothing takes this place.
  rmSync(handles);
  mkdirSync(handles);
  await engine.context.stopTimers.watch(changeVm(engine.context.db, vm.id, { ttlMs: 3_600_000 }));
  expect(engine.context.handles.get(vm.id)!.expiresAtMs).toBeGreaterThan(monotonicMs());
  expect(engine.log).toContainEqual(expect.stringContaining('could not be written down'));
  rmSync(handles, { recursive: true });
});

test('a database that cannot be read for once ends nothing, and is asked again', async () => {
  const vm = await create({});
  changeVm(engine.context.db, vm.id, { idleStopMs: 30 });
  let { context } = engine;
  const timers = new StopTimers(() => context);
  await timers.watch(vm);
  const broken = () => {
    throw new Error('disk I/O error');
  };
  context = { ...context, db: { prepare: broken } as unknown as typeof context.db };
  await vi.waitFor(
    () => expect(engine.log).toContainEqual(expect.stringContaining('is not known: disk I/O error')),
    10_000,
  );
  timers.close();
  expect(state(vm).state).toBe('running');
});
