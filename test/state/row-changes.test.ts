import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDatabase, type Database } from '../../src/state/database.ts';
import { deleteImageName, deleteImageRow, insertImage, setImageName } from '../../src/state/images.ts';
import { watchRows, type RowChange } from '../../src/state/row-changes.ts';
import type { VmChanges } from '../../src/state/vm-changes.ts';
import { changeVm, deleteVmRow, insertVm, moveVm } from '../../src/state/vms.ts';
import { saveWorkspace } from '../../src/state/workspaces.ts';

const imageId = 'a'.repeat(64);
const vm = {
  id: 'b'.repeat(32),
  name: 'web',
  imageId,
  imageName: 'test',
  cpus: 1,
  memoryMib: 128,
  diskBytes: 1024,
  network: 'user',
  hostPublicKey: 'ssh-ed25519 x',
  ephemeral: false,
  controlSocket: '/s',
  createdAt: new Date().toISOString(),
} as const;

let db: Database;
let changes: RowChange[];

beforeEach(() => {
  db = openDatabase(':memory:');
  insertImage(db, {
    id: imageId,
    source: 'pull',
    sizeBytes: 1,
    contentBytes: 1,
    config: { env: [] },
    layers: [],
    osRelease: {},
    hasShell: true,
    createdAt: new Date().toISOString(),
  });
  changes = [];
  watchRows(db, (change) => changes.push(change));
});
afterEach(() => db.close());

const delivered = async (): Promise<string[]> => {
  await Promise.resolve();
  return changes.splice(0).map(({ type, action }) => `${type} ${action}`);
};

test('a VM tells of its whole life, once each', async () => {
  insertVm(db, vm);
  moveVm(db, vm.id, 'starting');
  moveVm(db, vm.id, 'running');
  moveVm(db, vm.id, 'paused');
  moveVm(db, vm.id, 'running');
  moveVm(db, vm.id, 'stopping');
  moveVm(db, vm.id, 'stopped', 'It fell over');
  moveVm(db, vm.id, 'deleting');
  deleteVmRow(db, vm.id);
  await Promise.resolve();
  expect(changes.map((change) => change.action)).toEqual(
    'creating created starting running paused running stopping stopped deleting deleted'.split(' '),
  );
  expect(changes[7]).toEqual({
    type: 'vm',
    action: 'stopped',
    id: vm.id,
    name: 'web',
    state: 'stopped',
    reason: 'It fell over',
  });
});

test('a VM that is only created is created, not stopped', async () => {
  insertVm(db, vm);
  moveVm(db, vm.id, 'stopped');
  expect(await delivered()).toEqual(['vm creating', 'vm created']);
});

test('a new name tells the old one; what did not change is not told', async () => {
  insertVm(db, vm);
  db.prepare('UPDATE vms SET name = ?').run('db');
  db.prepare('UPDATE vms SET name = name, cpus = cpus, state = state').run();
  db.prepare('UPDATE vms SET cpus = 2').run();
  await Promise.resolve();
  expect(changes.slice(1)).toMatchObject([
    { action: 'renamed', name: 'db', oldName: 'web' },
    { action: 'changed', name: 'db' },
  ]);
});

test('whatever of a VM is changed is told, once for all that is changed at once', async () => {
  insertVm(db, vm);
  moveVm(db, vm.id, 'stopped');
  await delivered();
  const port = { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80, chosen: false } as const;
  const each: VmChanges[] = [
    { labels: { app: 'x' } },
    { ttlMs: 1000 },
    { idleStopMs: 1000 },
    { ports: [port] },
    { ports: [] },
    { publishesAll: true },
    { sockets: [{ hostPath: '/run/user/1/db.sock', guestPath: '/run/db.sock' }] },
    { sockets: [] },
    { cpus: 3, memoryMib: 512, diskBytes: 2 ** 34, labels: {}, ports: [port], publishesAll: false, ttlMs: 5 },
  ];
  for (const change of each) {
    changeVm(db, vm.id, change);
    await Promise.resolve();
    expect(changes.splice(0), JSON.stringify(change)).toMatchObject([
      { type: 'vm', action: 'changed', name: vm.name },
    ]);
  }
  deleteVmRow(db, vm.id);
  await Promise.resolve();
  expect(changes.map(({ action }) => action)).toEqual(['deleted']);
});

test('images and workspaces are told of', async () => {
  setImageName(db, 'test', imageId);
  setImageName(db, 'test', imageId);
  insertVm(db, vm);
  const workspace = { vmId: vm.id, hostPath: '/h', guestPath: '/g', baseTree: 't', preparedAt: 'now' };
  saveWorkspace(db, workspace);
  saveWorkspace(db, workspace);
  await Promise.resolve();
  expect(changes.at(-1)).toEqual({
    type: 'workspace',
    action: 'prepared',
    id: vm.id,
    name: 'web',
    hostPath: '/h',
    guestPath: '/g',
  });
  deleteVmRow(db, vm.id);
  deleteImageName(db, 'test');
  deleteImageRow(db, imageId);
  expect(await delivered()).toEqual([
    'image tagged',
    'vm creating',
    'workspace prepared',
    'workspace prepared',
    'vm deleted',
    'image untagged',
    'image deleted',
  ]);
});

test('what is rolled back was never so', async () => {
  const failing = db.transaction(() => {
    insertVm(db, vm);
    throw new Error('no');
  });
  expect(failing).toThrow('no');
  expect(await delivered()).toEqual([]);
  insertVm(db, vm);
  expect(await delivered()).toEqual(['vm creating']);
});
