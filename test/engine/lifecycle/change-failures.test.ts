import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Failure } from '../../../src/engine/failpoints.ts';
import { pauseVm, resumeVm } from '../../../src/engine/lifecycle/pause-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import type { TimedOperation } from '../../../src/engine/operations.ts';
import { getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm, pointsOf, runWith, vmWorld } from '../../support/vm-world.ts';

/** A verb that changes a VM which runs on, and is made to fail at every point that it passes. */
interface Change {
  readonly kind: string;
  readonly prepare?: (engine: FakeEngine, vm: Vm) => Promise<unknown>;
  readonly act: (engine: FakeEngine, vm: Vm, operation: TimedOperation) => Promise<unknown>;
}

const publish = (guestPort: number) => [{ protocol: 'tcp', bind: '127.0.0.1', guestPort } as const];
const changes: Record<string, Change> = {
  set: {
    kind: 'vm.set',
    act: (engine, { id, cpus, memoryMib, diskBytes }, operation) => {
      const size = { cpus: cpus + 1, memoryMib: memoryMib * 2, diskBytes: diskBytes * 2 };
      const params = { name: 'shop', ...size, labels: { app: 'x' }, ttlMs: 60_000 };
      const ports = { publish: publish(80), unpublish: [] };
      return setVm(engine.context, { id, params: { ...params, ...ports, removeLabels: [] } }, operation);
    },
  },
  pause: { kind: 'vm.pause', act: (engine, { id }, operation) => pauseVm(engine.context, id, operation) },
  resume: {
    kind: 'vm.resume',
    prepare: (engine, { id }) => pauseVm(engine.context, id, fakeOperation().operation),
    act: (engine, { id }, operation) => resumeVm(engine.context, id, operation),
  },
};

let engines: FakeEngine[] = [];
beforeEach(() => (engines = []));
afterEach(() => Promise.all(engines.map((engine) => engine.close())));

async function openWorld({ prepare }: Change): Promise<{ engine: FakeEngine; vm: Vm }> {
  const engine = fakeEngine();
  engines.push(engine);
  const vm = await createTestVm(engine, { publish: publish(22) });
  await prepare?.(engine, vm);
  return { engine, vm };
}

/** Row and machine of the VM, beside all that VMs are made of. */
function look(engine: FakeEngine, { id }: Vm) {
  const { state, name, cpus, memoryMib, diskBytes, labels, ttlMs, ports } = getVm(engine.context.db, id);
  const { activity, forwards, diskBytes: machineBytes } = engine.machines.get(id)!;
  const row = { state, name, cpus, memoryMib, diskBytes, labels, ttlMs, ports };
  return {
    row,
    machine: { activity, forwards: [...forwards], diskBytes: machineBytes },
    world: vmWorld(engine),
  };
}

/** What a VM was, but that its disk has grown where the machine's has. */
function asBefore(before: ReturnType<typeof look>, now: ReturnType<typeof look>): typeof before {
  const diskBytes = now.machine.diskBytes ?? before.row.diskBytes;
  const { world, machine } = before;
  return {
    world,
    row: { ...before.row, diskBytes },
    machine: { ...machine, diskBytes: now.machine.diskBytes },
  };
}

async function* worldsOf(change: Change) {
  const { engine, vm } = await openWorld(change);
  const points = await pointsOf(change.kind, (operation) => change.act(engine, vm, operation));
  expect(points.length).toBeGreaterThan(2);
  for (const point of points) yield { point, ...(await openWorld(change)) };
}

/** When everything is done but what only makes up for the pause; a failure leaves it done. */
const afterwards = 'vm.resume/Setting clock:before';

const failures: readonly Failure[] = ['error', 'enospc', 'eacces', 'timeout'];
const names = Object.keys(changes);

test.each(names.flatMap((name) => failures.map((failure) => [name, failure] as const)))(
  '%s that fails anywhere with %s leaves the VM as it was, and works when asked again',
  async (name, failure) => {
    const change = changes[name]!;
    for await (const { point, engine, vm } of worldsOf(change)) {
      const before = look(engine, vm);
      const failing = runWith(
        change.kind,
        (reached) => (reached === point ? failure : undefined),
        (operation) => change.act(engine, vm, operation),
      );
      await expect(failing, point).rejects.toThrow();
      if (point !== afterwards) {
        const now = look(engine, vm);
        expect(now, point).toEqual(asBefore(before, now));
      }
      expect(engine.log, point).toEqual([]);
      await runWith(
        change.kind,
        () => undefined,
        (operation) => change.act(engine, vm, operation),
      );
      expect(look(engine, vm).row, point).toMatchObject(
        { set: { name: 'shop', state: 'running' }, pause: { state: 'paused' }, resume: { state: 'running' } }[
          name
        ]!,
      );
    }
  },
);

test.each(names)('%s that hangs anywhere can be cancelled, and leaves the VM as it was', async (name) => {
  const change = changes[name]!;
  for await (const { point, engine, vm } of worldsOf(change)) {
    if (point === afterwards) continue;
    const before = look(engine, vm);
    const cancel = new AbortController();
    const hangAndCancel = (reached: string): Failure | undefined => {
      if (reached !== point) return undefined;
      setImmediate(() => cancel.abort());
      return 'hang';
    };
    const act = (operation: TimedOperation) => change.act(engine, vm, operation);
    const cancelled = runWith(change.kind, hangAndCancel, act, cancel.signal);
    await expect(cancelled, point).rejects.toMatchObject({ code: 'cancelled' });
    const now = look(engine, vm);
    expect(now, point).toEqual(asBefore(before, now));
  }
});
