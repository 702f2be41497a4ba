import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { failpoint, type Failpoints } from '../../src/engine/failpoints.ts';
import { createVm, type CreateVmParams } from '../../src/engine/lifecycle/create-vm.ts';
import { OperationRegistry, type TimedOperation } from '../../src/engine/operations.ts';
import { isAlive } from '../../src/host/process.ts';
import { listVms, type Vm } from '../../src/state/vms.ts';
import type { FakeEngine } from './fake-engine.ts';
import { fakeOperation } from './fakes.ts';

/** Makes a VM as users do; running, named "web", unless told otherwise. */
export function createTestVm(engine: FakeEngine, params: Partial<CreateVmParams> = {}): Promise<Vm> {
  const wanted = { name: 'web', start: true, ephemeral: false, ...params };
  return createVm(engine.context, wanted, fakeOperation().operation);
}

/** Everything that VMs are made of, in the database and on the host. */
export interface VmWorld {
  readonly states: Readonly<Record<string, string>>;
  readonly directories: readonly string[];
  /** Names of VMs whose VMM is alive; an id, where no row owns it */
  readonly vmms: readonly string[];
  readonly handles: readonly string[];
  readonly sockets: readonly string[];
}

export function vmWorld(engine: FakeEngine): VmWorld {
  const { layout, db } = engine.context;
  const rows = listVms(db);
  const nameOf = (id: string): string => rows.find((vm) => vm.id === id)?.name ?? id;
  const directories = namesIn(layout.vmsDirectory);
  return {
    states: Object.fromEntries(rows.map((vm) => [vm.name, vm.state])),
    directories: directories.map(nameOf).toSorted(),
    vmms: [...engine.vmms].flatMap(([id, vmm]) => (isAlive(vmm) ? [nameOf(id)] : [])).toSorted(),
    handles: directories
      .filter((id) => namesIn(join(layout.vmsDirectory, id)).includes('handles.json'))
      .map(nameOf)
      .toSorted(),
    sockets: namesIn(layout.runtimeDirectory),
  };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).toSorted();
  } catch {
    return [];
  }
}

/** Runs a task as an operation of some kind with failpoints. */
export function runWith<T>(
  kind: string,
  failpoints: Failpoints,
  task: (operation: TimedOperation) => Promise<T>,
  signal = new AbortController().signal,
): Promise<T> {
  return new OperationRegistry(failpoints).run({ kind, signal }, task);
}

/** The points that a task passes when nothing goes wrong. */
export async function pointsOf(
  kind: string,
  task: (operation: TimedOperation) => Promise<unknown>,
): Promise<string[]> {
  const points: string[] = [];
  const note = (point: string): undefined => void points.push(point);
  await runWith(kind, note, async (operation) => {
    await task(operation);
    await failpoint('end');
  });
  return points.slice(0, -1);
}
