import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SshFiles } from '../../../src/engine/names/ssh-files.ts';
import { findSshWay } from '../../../src/engine/names/ssh-way.ts';
import { changeVm, deleteVmRow, moveVm } from '../../../src/state/vms.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';

let engine: FakeEngine;
let files: SshFiles;
const program = { argv: ['/usr/bin/banger'] as const, env: { BANGER_HOME: '/home/b' } };
const signal = new AbortController().signal;

beforeEach(() => {
  engine = fakeEngine();
  files = new SshFiles(engine.context, program);
});
afterEach(async () => {
  files.close();
  await engine.close();
});

const config = (): string => readFileSync(engine.context.layout.sshConfig, 'utf8');
const known = (): string => readFileSync(engine.context.layout.knownHosts, 'utf8');
const add = (name: string) => addVm(engine.context, name, testImageId);
const way = (host: string) => findSshWay(engine.context, files, { host, signal });

function started(name: string, sshPort: number): void {
  const vm = add(name);
  moveVm(engine.context.db, vm.id, 'stopped');
  moveVm(engine.context.db, vm.id, 'starting');
  moveVm(engine.context.db, vm.id, 'running');
  run(vm.id, sshPort);
}

function run(id: string, sshPort: number): void {
  engine.context.handles.adopt(id, {
    process: { pid: 1, startTime: '1', bootId: 'b' },
    acceleration: 'tcg',
    driver: 'qemu',
    sshPort,
  });
}

test('the configuration follows VMs that come, go and are renamed, from when it is asked for on', async () => {
  add('web');
  await Promise.resolve();
  expect(existsSync(engine.context.layout.sshConfig)).toBe(false);
  await files.keep();
  expect(statSync(engine.context.layout.sshConfig).mode & 0o777).toBe(0o600);
  expect(config()).toContain('\nHost web.vm\n');
  const db = add('db');
  await vi.waitFor(() => expect(config()).toMatch(/\nHost db.vm\nHost web.vm\n/), 30_000);
  changeVm(engine.context.db, db.id, { name: 'data' });
  await vi.waitFor(() => expect(config()).toContain('\nHost data.vm\n'), 30_000);
  deleteVmRow(engine.context.db, db.id);
  await vi.waitFor(() => expect(config()).not.toContain('data.vm'), 30_000);
  await files.forget();
  add('later');
  await files.writeKnownHosts();
  expect(existsSync(engine.context.layout.sshConfig)).toBe(false);
});

test('the next engine writes it anew, with where its own program is', async () => {
  await files.keep();
  writeFileSync(engine.context.layout.sshConfig, 'of another build\n');
  const next = new SshFiles(engine.context, { ...program, argv: ['/opt/banger'] });
  await vi.waitFor(() => expect(config()).toContain("/opt/banger ssh-proxy '%h'"), 30_000);
  next.close();
});

test('host keys are those of the VMs there are when ssh connects, whoever had the name before', async () => {
  started('web', 4001);
  expect(await way('web.vm')).toEqual({ vm: 'web', address: '127.0.0.1', port: 4001 });
  expect(known()).toBe('web.vm k\n');
  changeVm(engine.context.db, 'web'.padEnd(32, '0'), { name: 'old' });
  rmSync(engine.context.layout.knownHosts);
  expect(await way('OLD.VM.')).toMatchObject({ vm: 'old', port: 4001 });
  expect(known()).toBe('old.vm k\n');
});

test('a VM that is starting is waited for; one that then fails, stands still or is unknown is told', async () => {
  const vm = add('web');
  moveVm(engine.context.db, vm.id, 'stopped');
  await expect(way('web')).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'VM "web" is not running',
    hint: 'Start it with: banger vm start web',
  });
  moveVm(engine.context.db, vm.id, 'starting');
  const waiting = way('web.vm');
  const failing = way('web.vm');
  failing.catch(() => undefined);
  run(vm.id, 4002);
  moveVm(engine.context.db, vm.id, 'running');
  expect(await waiting).toMatchObject({ port: 4002 });
  await failing;
  moveVm(engine.context.db, vm.id, 'paused');
  await expect(way('web.vm')).rejects.toMatchObject({ hint: 'Let it go on with: banger vm resume web' });
  await expect(way('wep.vm')).rejects.toMatchObject({ code: 'not_found' });
});

test('a VM that is deleted while ssh waits for it is told as that', async () => {
  const { id } = add('web');
  const waiting = way('web.vm');
  waiting.catch(() => undefined);
  deleteVmRow(engine.context.db, id);
  await expect(waiting).rejects.toThrow('VM "web" was deleted');
});
