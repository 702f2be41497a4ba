import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { collect, ended, openBanger, until, vmmPids } from '../support/banger.ts';

const banger = openBanger();
const show = (name: string) =>
  banger.json<{ id: string; state: string; bootId?: string }>('vm', 'show', name);
const ids = (): string[] => directory(join(banger.home, 'state/vms'));

beforeAll(async () => {
  await banger.ok(['vm', 'create', '--name', 'web']);
});
afterAll(() => banger[Symbol.asyncDispose]());

test('a file outlives stop and start, without a sync in the guest', async () => {
  const before = await show('web');
  await banger.guest('web', 'echo kept > /root/file && mkdir /root/dir && ln -s ../file /root/dir/link');
  const stopped = await banger.json('vm', 'stop', 'web');
  expect(stopped).toMatchObject({ state: 'stopped', flushed: true });
  expect(vmmPids(before.id, readdirSync('/proc'))).toEqual([]);

  await banger.ok(['vm', 'start', 'web']);
  expect(await banger.guest('web', 'cat /root/dir/link')).toBe('kept');
  expect((await show('web')).bootId).not.toBe(before.bootId);
});

test('a VM that powers itself off is stopped, and starts again', async () => {
  await banger.run(['vm', 'exec', 'web', '--', 'poweroff']);
  await until('the VM is stopped', async () => (await show('web')).state === 'stopped', 20_000);
  expect(await show('web')).not.toHaveProperty('lastError');
  await banger.ok(['vm', 'start', 'web']);
  expect(await banger.guest('web', 'echo back')).toBe('back');
});

test('a VMM that is killed is noticed, and said', async () => {
  const [vmm] = vmmPids((await show('web')).id, readdirSync('/proc'));
  process.kill(vmm!, 'SIGKILL');
  await until('the VM is stopped', async () => (await show('web')).state === 'stopped', 20_000);
  expect(await show('web')).toMatchObject({ lastError: expect.stringContaining('killed') });
  await banger.ok(['vm', 'start', 'web']);
});

test('an engine that is killed leaves its VMs running, and the next one takes them over', async () => {
  const before = await show('web');
  const bootId = await banger.guest('web', 'cat /proc/sys/kernel/random/boot_id');
  const engine = (await banger.enginePid())!;
  process.kill(engine, 'SIGKILL');
  await ended(engine);

  const after = await show('web');
  expect(after).toMatchObject({ state: 'running', bootId: before.bootId });
  expect(after.bootId).toBe(bootId);
  expect(await banger.guest('web', 'cat /proc/sys/kernel/random/boot_id')).toBe(bootId);
  expect(await banger.enginePid()).not.toBe(engine);
});

test('Ctrl-C while a VM is created leaves nothing of it', async () => {
  const before = ids();
  const child = banger.start(['vm', 'create', '--name', 'gone']);
  child.stderr!.on('data', (chunk: Buffer) => {
    if (chunk.includes('Booting guest')) child.kill('SIGINT');
  });
  const { code, stdout } = await collect(child);
  expect(code).toBe(130);
  expect(stdout).toBe('');
  expect((await banger.ok(['vm', 'list', '-q'])).split('\n')).toEqual(['web']);
  expect(ids()).toEqual(before);
  expect(vmmPids(banger.home, readdirSync('/proc'))).toHaveLength(1);
});

test('a deleted VM leaves nothing', async () => {
  const { id } = await show('web');
  expect(await banger.ok(['vm', 'delete', 'web'])).toBe('web');
  expect(existsSync(join(banger.home, 'state/vms', id))).toBe(false);
  expect(directory(join(banger.home, 'run'))).toEqual(['engine.sock']);
  expect(await banger.json('vm', 'list')).toEqual([]);
});

function directory(path: string): string[] {
  return readdirSync(path).toSorted();
}
