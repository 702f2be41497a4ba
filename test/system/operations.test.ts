import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { collect, makeDirectory, openBanger, until, vmmPids } from '../support/banger.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

interface Operation {
  readonly id: string;
  readonly kind: string;
  readonly subject?: string;
  readonly state: string;
  readonly undone: readonly string[];
  readonly stages: readonly { readonly stage: string; readonly seconds: number }[];
}
const show = (id: string): Promise<Operation> => banger.json('operation', 'show', id);
const stageOf = async (id: string): Promise<string | undefined> => (await show(id)).stages.at(-1)?.stage;

test('a detached create goes on; two watch it to its end, and events tell of it', async () => {
  const id = await banger.ok(['vm', 'create', '--name', 'web', '--detach']);
  const watchers = await Promise.all([1, 2].map(() => banger.run(['operation', 'watch', id])));
  for (const { code, stdout, stderr } of watchers) {
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'web\n' });
    expect(stderr).toContain('Booting guest');
  }
  expect(await show(id)).toMatchObject({ kind: 'vm.create', subject: 'web', state: 'done' });
  expect((await show(id)).stages.find(({ stage }) => stage === 'Booting guest')!.seconds).toBeGreaterThan(0);
  expect(await banger.guest('web', 'echo up')).toBe('up');

  const lines = await banger.ok([
    'events',
    '--json',
    '--since',
    '10m',
    '--until',
    '0s',
    '--filter',
    'type=vm',
  ]);
  const events = lines.split('\n').map((line) => JSON.parse(line) as { action: string; name: string });
  expect(events.map(({ action }) => action)).toEqual(['creating', 'created', 'starting', 'running']);
});

test('cancelling waits until everything is undone, and says what was', async () => {
  const id = await banger.ok(['vm', 'create', '--name', 'gone', '--detach']);
  await until('the guest boots', async () => (await stageOf(id)) === 'Booting guest');
  const watcher = collect(banger.start(['operation', 'watch', id]));
  const { code, stdout } = await banger.run(['operation', 'cancel', id]);
  expect(code).toBe(0);
  expect(stdout).toBe('Cancelled vm.create gone; undone: Starting VMM, Creating disk, Reserving name\n');
  expect((await watcher).code).toBe(130);
  expect((await banger.ok(['ps', '-q'])).split('\n')).toEqual(['web']);
  expect(vmmPids(banger.home, readdirSync('/proc'))).toHaveLength(1);
  expect(await banger.run(['operation', 'cancel', id])).toMatchObject({ code: 1, stdout: '' });
});

test('what a detached command would refuse is refused at once', async () => {
  const { code, stderr } = await banger.run(['vm', 'create', '--name', 'web', '--detach']);
  expect(code).toBe(1);
  expect(stderr).toContain('There is already a VM named "web"');
});

test('a detached import goes on, and who watches it is told when it is done or what is wrong', async () => {
  const tree = makeDirectory(banger.home, 'tree', 'etc');
  writeFileSync(join(tree, 'os-release'), 'PRETTY_NAME="Mine"\n');
  execFileSync('tar', ['-C', dirname(tree), '-cf', join(banger.home, 'mine.tar'), 'etc']);
  const id = await banger.ok(['image', 'import', 'mine.tar', '--detach']);
  expect(await banger.json('operation', 'watch', id)).toMatchObject({ kind: 'image.import', state: 'done' });
  expect(await banger.json('image', 'show', 'mine')).toMatchObject({ os: 'Mine', source: 'import' });

  writeFileSync(join(banger.home, 'broken.tar'), Buffer.alloc(4096, 'no tar'));
  const broken = await banger.run(['image', 'import', 'broken.tar', '--detach']);
  const watched = await banger.run(['operation', 'watch', broken.stdout.trim() || 'op-none']);
  // Whoever is quick is told at once, the others when they look.
  expect([broken.code, watched.code]).toContain(1);
  expect(`${broken.stderr}${watched.stderr}`).toContain('broken');
});

test('questions do not clutter the list', async () => {
  const kinds = (await banger.json<Operation[]>('operation', 'list')).map(({ kind }) => kind);
  expect(kinds).toContain('vm.create');
  expect(kinds.filter((kind) => /list|show|status|events|operation/.test(kind))).toEqual([]);
});

test('events are told as they happen, and Ctrl-C ends the listening', async () => {
  const child = banger.start(['events', '--json', '--filter', 'subject=web', '--filter', 'type=vm']);
  const collected = collect(child);
  let output = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes('"deleted"')) child.kill('SIGINT');
  });
  // Nobody says when the listener is connected: things happen until it has heard of one.
  await until('the VM is deleted', async () => {
    if (!(await banger.ok(['ps', '-q'])).includes('web'))
      await banger.run(['vm', 'create', '--no-start', '--name', 'web']);
    await banger.run(['vm', 'delete', 'web']);
    return output.includes('"deleted"');
  });
  const { code } = await collected;
  expect(code).toBe(130);
  for (const line of output.trim().split('\n'))
    expect(JSON.parse(line)).toMatchObject({ type: 'vm', name: 'web', time: expect.stringMatching(/Z$/) });
});
