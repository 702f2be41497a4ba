import { expect, test } from 'vitest';
import { exitCodeOf } from '../../src/commands/attach.ts';
import { runWords } from '../support/run-words.ts';

const ran = { code: 0, vm: 'swift-otter', removed: true, stages: [] };

test('exec, ssh and logs take the one VM that has a label', async () => {
  const { params } = await runWords(['vm', 'exec', '-l', 'app=web', '--', 'uname', '-a']);
  expect(params).toMatchObject({ vm: 'web', argv: ['uname', '-a'] });
  expect((await runWords(['vm', 'exec', '--label', 'app=web', 'true'])).params).toMatchObject({
    vm: 'web',
    argv: ['true'],
  });
  expect((await runWords(['vm', 'ssh', '-l', 'app=web'])).params).toMatchObject({ vm: 'web' });
  expect((await runWords(['vm', 'logs', '-l', 'app=web'])).params).toMatchObject({
    vm: 'web',
    source: 'console',
  });
  await expect(runWords(['vm', 'exec', '-l', 'all', '--', 'true'])).rejects.toThrow(
    '2 VMs have that label: one, two',
  );
  await expect(runWords(['vm', 'exec', 'web'])).rejects.toMatchObject({ code: 'commander.missingArgument' });
  await expect(runWords(['vm', 'exec', '-l', 'app=web'])).rejects.toMatchObject({
    code: 'commander.missingArgument',
  });
});

test('ssh takes one command line, for a shell and as root, and is a shell without one', async () => {
  const argv = ['/bin/sh', '-c', 'ps aux | grep node'];
  const { params } = await runWords(['vm', 'ssh', 'web', '--', 'ps', 'aux | grep', 'node']);
  expect(params).toMatchObject({ vm: 'web', user: 'root', argv });
  const labelled = await runWords(['vm', 'ssh', '-u', 'me', '-l', 'app=web', 'ps aux | grep node']);
  expect(labelled.params).toMatchObject({ vm: 'web', user: 'me', argv });
  expect((await runWords(['vm', 'ssh', 'web', 'ls', '-la'])).params).toMatchObject({
    vm: 'web',
    argv: ['/bin/sh', '-c', 'ls -la'],
  });
  await expect(runWords(['vm', 'ssh', 'web', '-u', 'me', '--', 'id'])).rejects.toMatchObject({
    hint: 'Put options before the VM: banger vm ssh -u me web -- id',
  });
  expect((await runWords(['vm', 'ssh', 'web'])).params).not.toHaveProperty('argv');
});

test.each([
  [['.', '--', 'npm', 'test'], { path: '/home/me/tree', argv: ['npm', 'test'], remove: true }],
  [['--', 'ls', '--json', '-l'], { path: undefined, argv: ['ls', '--json', '-l'], remove: true }],
  [['.'], { path: '/home/me/tree', argv: undefined, remove: false }],
  [[], { path: undefined, argv: undefined, remove: false }],
  [['--rm'], { remove: true }],
  [['--keep', '--', 'make'], { remove: false }],
  [['--name', 'web', '--', 'make'], { remove: false, name: 'web' }],
  [['--name', 'web', '--rm', '--', 'make'], { remove: true }],
])('run %j asks for %j', async (words, expected) => {
  expect((await runWords(['vm', 'run', ...words], ran)).params).toMatchObject(expected);
});

test('a command without -- is refused with the line that works', async () => {
  await expect(runWords(['vm', 'run', '.', 'make', 'all'])).rejects.toMatchObject({
    code: 'invalid_argument',
    hint: expect.stringContaining('banger vm run . -- make all') as string,
  });
});

test('--detach runs nothing, and prints the name of the VM that stays', async () => {
  const { params, printed } = await runWords(['vm', 'run', '-d', '.', '--name', 'web'], {
    ...ran,
    removed: false,
  });
  expect(params).toMatchObject({ detach: true, remove: false, argv: undefined, path: '/home/me/tree' });
  expect(printed).toEqual(['swift-otter']);
});

test.each([
  [['-d', '--rm'], 'nothing runs that could end'],
  [['-d', '.', '--', 'make'], 'a command was given'],
  [['-d', '--entrypoint'], '--entrypoint was given'],
  [['-d', '-u', 'app'], '--user has no meaning'],
  [['-d', '.', '-w', 'sub'], '--workdir has no meaning'],
  [['-w', 'sub', '--', 'ls'], 'no working tree that it could be in'],
])('run %j is refused before anything is asked of the engine', async (words, why) => {
  const { calls, error } = await runWords(['vm', 'run', ...words], ran).then(
    (done) => ({ calls: done.calls, error: undefined }),
    (error: unknown) => ({ calls: [], error }),
  );
  expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining(why) as string });
  expect(calls).toEqual([]);
});

test('--rm and --keep together are refused', async () => {
  await expect(runWords(['vm', 'run', '--rm', '--keep'])).rejects.toThrow('contradict');
});

test('exec passes everything after the VM on as it is, with or without --', async () => {
  expect((await runWords(['vm', 'exec', 'web', '--', 'ls', '-l'])).params).toMatchObject({
    vm: 'web',
    argv: ['ls', '-l'],
  });
  expect((await runWords(['vm', 'exec', 'web', 'ls', '--help'])).params).toMatchObject({
    argv: ['ls', '--help'],
  });
  expect((await runWords(['vm', 'exec', '-it', 'web', 'ls', '-t'])).params).toMatchObject({
    argv: ['ls', '-t'],
  });
});

test('an option of exec after the VM is told where it belongs, and is no command', async () => {
  await expect(runWords(['vm', 'exec', 'web', '-w', '/srv', '--', 'ls', '-l'])).rejects.toMatchObject({
    message: '"-w" comes after the VM, where the command begins',
    hint: 'Put options before the VM: banger vm exec -w /srv web -- ls -l',
  });
  await expect(runWords(['vm', 'exec', 'web', '-it', 'sh'])).rejects.toThrow('comes after the VM');
  // It is to be copied into a shell, which is not to do here what was meant for there.
  const words = ['vm', 'exec', 'web', '-w', '/my srv', '--', 'sh', '-c', 'echo "$A" >>f'];
  await expect(runWords(words)).rejects.toMatchObject({
    hint: `Put options before the VM: banger vm exec -w '/my srv' web -- sh -c 'echo "$A" >>f'`,
  });
  expect((await runWords(['vm', 'exec', 'web', '--', '-x'])).params).toMatchObject({ argv: ['-x'] });
});

test.each([
  [{ code: 7 }, 7],
  [{ code: 0 }, 0],
  [{ signal: 'TERM' }, 143],
  [{ signal: 'KILL' }, 137],
  [{ signal: 'INT' }, 130],
])('a program that ended with %j is exit code %i', (exit, code) => {
  expect(exitCodeOf(exit, { SIGTERM: 15, SIGKILL: 9, SIGINT: 2 })).toBe(code);
});
