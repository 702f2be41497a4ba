import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { ResolverKeeper } from '../../../src/engine/network/resolver-keeper.ts';
import { makeOwnRoot } from '../../../src/host/drivers/qemu-root.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';

let engine: FakeEngine;
let host: string;

beforeEach(() => {
  engine = fakeEngine();
  host = join(engine.context.layout.stateDirectory, 'host-resolv.conf');
  writeFileSync(host, 'nameserver 192.0.2.1\n');
});
afterEach(() => engine.close());

/** A VM whose VMM runs in a root directory of its own. */
async function liveVm(name: string, network = 'user') {
  const vm = addVm(engine.context, name, testImageId);
  engine.context.db.prepare('UPDATE vms SET network = ? WHERE id = ?').run(network, vm.id);
  const log = vmPaths(engine.context.layout, vm.id).vmmLog;
  mkdirSync(dirname(log), { recursive: true });
  const root = await makeOwnRoot(log, {});
  return { vm, root, file: join(root, 'etc', 'resolv.conf') };
}

test('what VMMs look up names by is what the host has now, for those that look any up', async () => {
  const [web, closed] = [await liveVm('web'), await liveVm('closed', 'none')];
  const keeper = new ResolverKeeper(engine.context, host);
  const told = (): string => readFileSync(web.file, 'utf8');
  await keeper.look();
  expect(told()).toBe('nameserver 192.0.2.1\n');

  // In place, by another file, and by none.
  writeFileSync(host, 'nameserver 192.0.2.2\n');
  await keeper.look();
  expect(told()).toBe('nameserver 192.0.2.2\n');
  writeFileSync(`${host}.new`, 'nameserver 192.0.2.3\n');
  renameSync(`${host}.new`, host);
  await keeper.look();
  expect(told()).toBe('nameserver 192.0.2.3\n');
  rmSync(host);
  await keeper.look();
  expect(told()).toBe('');
  expect(readFileSync(closed.file, 'utf8')).toBe('');
});

test('one that starts while that changes is told at the next look', async () => {
  const keeper = new ResolverKeeper(engine.context, host);
  await keeper.look();
  const { file } = await liveVm('web');
  await keeper.look();
  expect(readFileSync(file, 'utf8')).toBe('nameserver 192.0.2.1\n');
});

test('a VM that starts over what was left of it does not mind being told at any moment of that', async () => {
  const { vm, file } = await liveVm('web');
  const log = vmPaths(engine.context.layout, vm.id).vmmLog;
  for (let round = 0; round < 200; round++) {
    const keeper = new ResolverKeeper(engine.context, host);
    const started = makeOwnRoot(log, { user: { forwards: [], reach: 'all' } });
    await sleep((round % 20) / 5);
    await Promise.all([started, keeper.look()]);
    expect(readdirSync(dirname(file))).toEqual(['resolv.conf']);
  }
  expect(engine.log.filter((line) => line.includes('may not find names'))).toEqual([]);
});

test('a VM that has stopped, or has no such directory, is passed over, and none is made for it', async () => {
  const [web, other] = [await liveVm('web'), await liveVm('other')];
  engine.context.db.prepare("UPDATE vms SET state = 'stopped' WHERE id = ?").run(web.vm.id);
  rmSync(other.root, { recursive: true });
  const third = await liveVm('third');
  await new ResolverKeeper(engine.context, host).look();
  expect([readFileSync(web.file, 'utf8'), existsSync(other.root)]).toEqual(['', false]);
  expect(readFileSync(third.file, 'utf8')).toBe('nameserver 192.0.2.1\n');
});

test('one that cannot be told keeps the others from nothing, is told later, and is in the log once', async () => {
  const [web, other] = [await liveVm('web'), await liveVm('other')];
  const keeper = new ResolverKeeper(engine.context, host);
  rmSync(web.file);
  mkdirSync(join(web.file, 'in the way'), { recursive: true });
  await keeper.look();
  await keeper.look();
  expect(readFileSync(other.file, 'utf8')).toBe('nameserver 192.0.2.1\n');
  expect(engine.log.filter((line) => line.includes('may not find names'))).toHaveLength(1);
  rmSync(web.file, { recursive: true });
  await keeper.look();
  expect(readFileSync(web.file, 'utf8')).toBe('nameserver 192.0.2.1\n');
});

test.runIf(process.getuid!() === 0)(
  'a change is told when it happens, whether in the file, of it, or of the link to it',
  async () => {
    const { file } = await liveVm('web');
    const link = `${host}.link`;
    symlinkSync(host, link);
    const keeper = new ResolverKeeper(engine.context, link);
    onTestFinished(() => keeper.close());
    keeper.start(3_600_000);
    const told = (address: string) =>
      expect.poll(() => readFileSync(file, 'utf8')).toBe(`nameserver ${address}\n`);
    await told('192.0.2.1');
    writeFileSync(host, 'nameserver 192.0.2.2\n');
    await told('192.0.2.2');
    writeFileSync(`${host}.new`, 'nameserver 192.0.2.3\n');
    renameSync(`${host}.new`, host);
    await told('192.0.2.3');
    mkdirSync(`${host}.d`);
    writeFileSync(`${host}.d/file`, 'nameserver 192.0.2.4\n');
    symlinkSync(`${host}.d/file`, `${link}.new`);
    renameSync(`${link}.new`, link);
    await told('192.0.2.4');
    writeFileSync(`${host}.d/file`, 'nameserver 192.0.2.5\n');
    await told('192.0.2.5');
  },
);
