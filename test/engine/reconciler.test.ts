import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { HandleCache } from '../../src/engine/handles.ts';
import { startVm } from '../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../src/engine/lifecycle/stop-vm.ts';
import { reconcile } from '../../src/engine/reconciler.ts';
import { checkUnowned } from '../../src/host/doctor/unowned.ts';
import { processName } from '../../src/host/drivers/vmm-process.ts';
import { hostBootId, isAlive, killProcess } from '../../src/host/process.ts';
import { makeTrialPlace } from '../../src/host/trial-place.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { beginFurnishing } from '../../src/state/furnishing.ts';
import { deleteVmRow, findVm, getVm, type Vm } from '../../src/state/vms.ts';
import { saveWorkspace } from '../../src/state/workspaces.ts';
import { fakeEngine, type FakeEngine } from '../support/fake-engine.ts';
import { fakeOperation } from '../support/fakes.ts';
import { createTestVm } from '../support/vm-world.ts';

let engine: FakeEngine;
let vm: Vm;

beforeEach(async () => {
  engine = fakeEngine();
  vm = await createTestVm(engine);
});
afterEach(() => engine.close());

/** The same host and database under an engine that has just started: nothing in memory. */
const nextEngine = () => ({
  ...engine.context,
  handles: new HandleCache((id) => vmPaths(engine.context.layout, id).handles),
  controls: new Map<string, never>(),
  vmmSignals: new Map<string, never>(),
});

const setState = (state: string, extra = '') =>
  engine.context.db.prepare(`UPDATE vms SET state = ?${extra} WHERE id = ?`).run(state, vm.id);

test('what work under way had put aside goes', async () => {
  const { scratchDirectory } = engine.context.layout;
  mkdirSync(join(scratchDirectory, 'workspace-left/objects'), { recursive: true });
  await reconcile(nextEngine());
  expect(existsSync(scratchDirectory)).toBe(false);
});

// The last is where releases before this one had them: its files go anyway, and with them what tells of a VMM.
test.for(['stateDirectory', 'vmsDirectory', 'runtimeDirectory', 'scratchDirectory'] as const)(
  'what a probe of an engine that was killed had made in the %s goes, its VMM, too',
  async (parent) => {
    const place = engine.context.layout[parent];
    mkdirSync(place, { recursive: true });
    const { directory, id } = makeTrialPlace(place, 'probe');
    const note = join(directory, 'owner.json');
    writeFileSync(note, readFileSync(note, 'utf8').replace(/"bootId":"[^"]+"/, '"bootId":"another"'));
    // As a VMM is found: by its words.
    const vmm = spawn('sh', ['-c', 'read x', 'vmm', '--id', processName(id)], { stdio: 'pipe' });
    onTestFinished(() => void vmm.kill('SIGKILL'));
    const ended = once(vmm, 'exit');
    await reconcile(nextEngine());
    expect(existsSync(directory)).toBe(false);
    await ended;
  },
);

test('a VM that runs is adopted with its handles', async () => {
  const next = nextEngine();
  await reconcile(next);
  expect(next.handles.get(vm.id)).toEqual(engine.context.handles.get(vm.id));
  expect(getVm(next.db, vm.id).state).toBe('running');
});

test('one whose handles hold is adopted, however its command line looks', async () => {
  const next = nextEngine();
  const driver: typeof next.driver = (name) => ({ ...engine.context.driver(name), find: () => undefined });
  await reconcile({ ...next, driver });
  expect(next.handles.get(vm.id)).toEqual(engine.context.handles.get(vm.id));
  expect(getVm(next.db, vm.id).state).toBe('running');
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(true);
});

test('one whose command line does not tell how it is reached is asked for it', async () => {
  const { sshPort } = engine.context.handles.get(vm.id)!;
  rmSync(vmPaths(engine.context.layout, vm.id).handles);
  engine.faults.tellsNoForwards = true;
  const next = nextEngine();
  await reconcile(next);
  expect(next.handles.get(vm.id)).toMatchObject({ sshPort });
  expect(next.handles.get(vm.id)?.sshHost).toBeUndefined();
});

test.each([
  ['is missing', (path: string) => rmSync(path)],
  ['is cut short', (path: string) => writeFileSync(path, '{"process":{"pid":1')],
  [
    'names a process of somebody else',
    (path: string) =>
      writeFileSync(
        path,
        JSON.stringify({
          process: { pid: 1, startTime: '1', bootId: 'x' },
          acceleration: 'tcg',
          driver: 'qemu',
          sshPort: 1,
        }),
      ),
  ],
])('when its handle file %s, a VM is adopted by its command line', async (_, damage) => {
  damage(vmPaths(engine.context.layout, vm.id).handles);
  const next = nextEngine();
  await reconcile(next);
  expect(next.handles.get(vm.id)).toMatchObject({
    process: engine.vmms.get(vm.id),
    sshPort: 4242,
    guestBootId: 'b00t',
  });
});

test('a VM whose VMM died meanwhile is stopped, and says so', async () => {
  await killProcess(engine.vmms.get(vm.id)!);
  const next = nextEngine();
  // The engine that made it has noticed too, by then; what counts is what the next one makes of "running".
  await vi.waitFor(() => expect(getVm(next.db, vm.id).state).toBe('stopped'), 30_000);
  setState('running');
  await reconcile(next);
  expect(getVm(next.db, vm.id)).toMatchObject({
    state: 'stopped',
    lastError: expect.stringContaining('VMM ended') as string,
  });
});

test('a VM that ran when the host was rebooted says so', async () => {
  const { handles } = vmPaths(engine.context.layout, vm.id);
  const text = readFileSync(handles, 'utf8');
  await killProcess(engine.vmms.get(vm.id)!);
  await vi.waitFor(() => expect(getVm(engine.context.db, vm.id).state).toBe('stopped'), 30_000);
  writeFileSync(handles, text.replaceAll(hostBootId(), 'an-earlier-boot'));
  setState('running');
  await reconcile(nextEngine());
  expect(getVm(engine.context.db, vm.id)).toMatchObject({
    state: 'stopped',
    lastError: expect.stringContaining('The host was shut down or rebooted') as string,
  });
});

test('a VM that is started has its control socket where sockets belong now', async () => {
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  const layout = {
    ...engine.context.layout,
    runtimeDirectory: join(engine.context.layout.runtimeDirectory, 'new'),
  };
  const next = { ...nextEngine(), layout };
  await startVm(next, vm.id, fakeOperation().operation);
  const { controlSocket } = vmPaths(layout, vm.id);
  expect(controlSocket).not.toBe(vmPaths(engine.context.layout, vm.id).controlSocket);
  expect(engine.specs.at(-1)?.controlSocket).toBe(controlSocket);
  expect(getVm(next.db, vm.id).controlSocket).toBe(controlSocket);
  // The next engine has other ideas again; this VMM stays where it is.
  await reconcile(nextEngine());
  expect(getVm(next.db, vm.id)).toMatchObject({ state: 'running', controlSocket });
});

test.each(['creating', 'deleting'])('a VM found %s is removed with everything it owns', async (state) => {
  setState(state);
  await reconcile(nextEngine());
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
  expect(existsSync(vmPaths(engine.context.layout, vm.id).directory)).toBe(false);
});

test('the first start of a create that died is undone; a later start leaves the VM stopped', async () => {
  setState('starting');
  await reconcile(nextEngine());
  expect(getVm(engine.context.db, vm.id)).toMatchObject({ state: 'stopped' });
  setState('starting', ', started_at = NULL, stopped_at = NULL');
  await reconcile(nextEngine());
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
});

test('a VM that was made without a start and dies in its first one is kept', async () => {
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, fakeOperation().operation);
  setState('starting', ', started_at = NULL');
  await reconcile(nextEngine());
  expect(getVm(engine.context.db, vm.id).state).toBe('stopped');
});

test('a stop that was cut short is finished', async () => {
  setState('stopping');
  await reconcile(nextEngine());
  await vi.waitFor(() => expect(getVm(engine.context.db, vm.id).state).toBe('stopped'), { timeout: 10_000 });
  expect(isAlive(engine.vmms.get(vm.id)!)).toBe(false);
});

test('the VM of a run whose engine died is removed', async () => {
  engine.context.db.prepare('UPDATE vms SET ephemeral = 1').run();
  await reconcile(nextEngine());
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
});

test('the VM of a run whose engine died is kept when a working tree is in it', async () => {
  addTree();
  await reconcile(nextEngine());
  expect(getVm(engine.context.db, vm.id)).toMatchObject({ state: 'running', ephemeral: false });
});

test('the VM of a run whose engine died is removed when it has its tree, and not yet what that asks for', async () => {
  addTree();
  beginFurnishing(engine.context.db, vm.id);
  await reconcile(nextEngine());
  expect(findVm(engine.context.db, vm.id)).toBeUndefined();
});

function addTree(): void {
  engine.context.db.prepare('UPDATE vms SET ephemeral = 1').run();
  const preparedAt = new Date().toISOString();
  saveWorkspace(engine.context.db, {
    vmId: vm.id,
    hostPath: '/tree',
    guestPath: '/root/tree',
    baseTree: 'f'.repeat(40),
    preparedAt,
  });
}

test('a directory of no VM is removed, and what is not ours is left', async () => {
  const { vmsDirectory } = engine.context.layout;
  const orphan = join(vmsDirectory, 'b'.repeat(32));
  const notes = join(vmsDirectory, 'notes');
  mkdirSync(orphan);
  writeFileSync(join(orphan, 'host_key'), 'of a create that was cut short');
  mkdirSync(notes);
  await reconcile(nextEngine());
  expect([orphan, notes].map(existsSync)).toEqual([false, true]);
});

test('a VM that a copy of the database does not know is left with its disk and its VMM, and doctor tells of it', async () => {
  const { directory, disk } = vmPaths(engine.context.layout, vm.id);
  const { unownedNote } = engine.context.layout;
  writeFileSync(disk('qcow2'), 'days of work');
  deleteVmRow(engine.context.db, vm.id);
  await reconcile(nextEngine());
  expect(readFileSync(disk('qcow2'), 'utf8')).toBe('days of work');
  const vmm = engine.vmms.get(vm.id)!;
  expect(isAlive(vmm)).toBe(true);

  const told = await checkUnowned(unownedNote);
  expect(told.status).toBe('warn');
  expect(told.evidence).toContain(`VM at ${directory} (0 MiB, runs as process ${vmm.pid})`);
  expect(told.fix).toContain(
    `ended first (kill ${vmm.pid}): qemu-img convert -O raw ${disk('qcow2')} lost.ext4`,
  );

  // Whoever has taken out what they want removes it by hand.
  await killProcess(vmm);
  rmSync(directory, { recursive: true });
  expect((await checkUnowned(unownedNote)).status).toBe('pass');
  await reconcile(nextEngine());
  expect(existsSync(unownedNote)).toBe(false);
});
