import { beforeEach, expect, test } from 'vitest';
import { openDatabase, type Database } from '../../src/state/database.ts';
import { insertImage } from '../../src/state/images.ts';
import { deleteVmRow, getVm, insertVm, listVms, moveVm, resolveVm, type NewVm } from '../../src/state/vms.ts';
import { saveWorkspace, listWorkspaces } from '../../src/state/workspaces.ts';

let db: Database;

const image = {
  id: 'a'.repeat(64),
  source: 'import',
  sizeBytes: 1,
  contentBytes: 1,
  config: { env: [] },
  layers: [],
  osRelease: {},
  hasShell: true,
  createdAt: '2026-01-01T00:00:00.000Z',
} as const;

function newVm(name: string, id: string): NewVm {
  return {
    id,
    name,
    imageId: image.id,
    imageName: 'base',
    cpus: 1,
    memoryMib: 256,
    diskBytes: 1024,
    network: 'user',
    hostPublicKey: 'ssh-ed25519 AAAA',
    ephemeral: false,
    controlSocket: '/run/x',
    createdAt: '2026-01-01T00:00:00.000Z',
  };
}

beforeEach(() => {
  db = openDatabase(':memory:');
  insertImage(db, image);
});

test('a name belongs to the first who reserves it', () => {
  insertVm(db, newVm('web', '1'.repeat(32)));
  expect(() => insertVm(db, newVm('web', '2'.repeat(32)))).toThrow('There is already a VM named "web"');
  expect(listVms(db)).toHaveLength(1);
});

test('a VM moves only along the allowed states', () => {
  const { id } = insertVm(db, newVm('web', '1'.repeat(32)));
  expect(() => moveVm(db, id, 'running')).toThrow('VM "web" is creating and cannot go to running');
  moveVm(db, id, 'starting');
  expect(moveVm(db, id, 'running').startedAt).toBeDefined();
  expect(moveVm(db, id, 'stopped', 'it died')).toMatchObject({ state: 'stopped', lastError: 'it died' });
  expect(moveVm(db, id, 'starting').lastError).toBeUndefined();
});

test('a VM is found by name and by an unambiguous start of its id', () => {
  insertVm(db, newVm('web', 'abc1'.padEnd(32, '0')));
  insertVm(db, newVm('db', 'abc2'.padEnd(32, '0')));
  expect(resolveVm(db, 'web').name).toBe('web');
  expect(resolveVm(db, 'abc2').name).toBe('db');
  expect(() => resolveVm(db, 'abc')).toThrow('"abc" could be any of these VMs: db, web');
  expect(() => resolveVm(db, 'wbe')).toThrow('There is no VM named "wbe"');
});

test('a slip of one letter gets a suggestion', () => {
  insertVm(db, newVm('web', '1'.repeat(32)));
  for (const slip of ['wbe', 'ewb', 'we', 'webb', 'wwb']) {
    expect(() => resolveVm(db, slip), slip).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('Did you mean "web"?') as string }),
    );
  }
  expect(() => resolveVm(db, 'wet')).toThrow(
    expect.objectContaining({ hint: expect.stringContaining('"web"') as string }),
  );
});

test('a VM that is deleted takes its workspaces along', () => {
  const { id } = insertVm(db, newVm('web', '1'.repeat(32)));
  saveWorkspace(db, {
    vmId: id,
    hostPath: '/a',
    guestPath: '/root/a',
    baseTree: 'f'.repeat(40),
    preparedAt: image.createdAt,
  });
  expect(listWorkspaces(db, id)).toHaveLength(1);
  deleteVmRow(db, id);
  expect(listWorkspaces(db, id)).toEqual([]);
  expect(() => getVm(db, id)).toThrow('There is no VM');
});
