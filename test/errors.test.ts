import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { explainHostError } from '../src/errors.ts';
import { OperationRegistry } from '../src/engine/operations.ts';
import { toWireError } from '../src/engine/rpc/messages.ts';

/** As Node and SQLite throw it. */
function hostError(code: string, fields: object = { syscall: 'open', path: '/home/me/file' }): Error {
  return Object.assign(new Error(`${code}: something`), { code, ...fields });
}

test.each([
  ['ENOSPC', 'The disk is full: no space left to write "/home/me/file"'],
  ['EDQUOT', 'Your disk quota is used up: "/home/me/file" cannot be written'],
  ['EROFS', '"/home/me/file" is on a filesystem that is read-only'],
  ['EACCES', '"/home/me/file" may not be used by you (EACCES)'],
  ['EPERM', '"/home/me/file" may not be used by you (EPERM)'],
  ['EIO', 'The disk failed at "/home/me/file" (EIO)'],
  ['ENOTDIR', '"/home/me/file" cannot be used: something above it is a file and no directory (ENOTDIR)'],
  ['EISDIR', '"/home/me/file" is a directory where a file should be (EISDIR)'],
  ['ELOOP', '"/home/me/file" cannot be reached: its symlinks lead in a circle (ELOOP)'],
  ['ENAMETOOLONG', '"/home/me/file" is a longer path, or has a longer name, than the filesystem takes'],
  ['EFBIG', '"/home/me/file" would be larger than the filesystem, or your file size limit, allows (EFBIG)'],
  ['ESTALE', '"/home/me/file" is on a network filesystem whose server has forgotten it (ESTALE)'],
  ['ENODEV', '"/home/me/file" is on a filesystem that cannot do what is needed (ENODEV)'],
  ['ETXTBSY', '"/home/me/file" is a program that runs, and cannot be written now (ETXTBSY)'],
  ['ENOMEM', 'The host has no memory left (ENOMEM)'],
  ['EMFILE', 'There are too many open files (EMFILE at open)'],
  ['ENFILE', 'There are too many open files (ENFILE at open)'],
  ['SQLITE_FULL', 'The disk is full: no space left to write the database'],
  ['SQLITE_IOERR_FSYNC', 'The disk failed at'],
  ['SQLITE_READONLY', 'The database is on a filesystem that is read-only'],
  ['SQLITE_READONLY_DIRECTORY', 'The database cannot be written'],
  ['SQLITE_CANTOPEN', 'The database cannot be opened'],
])('%s is told with the path and what to do', (code, message) => {
  const error = explainHostError(hostError(code));
  expect(error).toMatchObject({
    code: 'host_unsupported',
    message: expect.stringContaining(message) as unknown,
  });
  expect(error?.hint).toMatch(/\S/);
  expect(toWireError(hostError(code), 'op')).toMatchObject({
    message: error!.message,
    data: { hint: error!.hint },
  });
});

test('of several errors the first that can be explained is, and a file that is not named is in the directory given', () => {
  const bug = new TypeError('x is not a function');
  const full = hostError('ENOSPC', {});
  expect(explainHostError(new AggregateError([bug, full], 'both'), '/home/me/state')?.message).toContain(
    '"/home/me/state"',
  );
  expect(explainHostError(new AggregateError([bug], 'one'), '/home/me/state')).toBeUndefined();
});

test('whoever asked, and whoever lists operations, is told the same', async () => {
  const explain = (error: unknown): unknown => explainHostError(error, '/state') ?? error;
  const registry = new OperationRegistry(undefined, undefined, explain);
  const signal = new AbortController().signal;
  const task = () => Promise.reject(hostError('EROFS'));
  await expect(registry.run({ kind: 'vm.create', signal }, task)).rejects.toMatchObject({
    code: 'host_unsupported',
  });
  expect(registry.list()[0]!.error).toMatchObject({ code: 'host_unsupported' });
  const question = registry.run({ kind: 'vm.list', signal, isQuestion: true }, task);
  await expect(question).rejects.toMatchObject({ code: 'host_unsupported' });
});

test('a rename names the place that it was to reach', () => {
  const error = explainHostError(hostError('EROFS', { syscall: 'rename', path: '/a.tmp', dest: '/a' }));
  expect(error?.message).toContain('"/a"');
});

test('too many processes, and a database that is held', () => {
  expect(explainHostError(hostError('EAGAIN', { syscall: 'spawn qemu-img' }))?.message).toContain(
    'processes',
  );
  expect(explainHostError(hostError('SQLITE_BUSY'))).toMatchObject({ code: 'busy' });
});

test.each([
  ['a bug', new TypeError('x is not a function')],
  ['a file that is missing', hostError('ENOENT')],
  ['a socket that would block', hostError('EAGAIN', { syscall: 'read' })],
])('%s is not explained away', (_, error) => {
  expect(explainHostError(error)).toBeUndefined();
  expect(toWireError(error, 'op').data.code).toBe('internal');
});

test('a program that finds no descriptors for its pipes is an error of that program, and of nothing else', async () => {
  const script = `
    const { exec } = await import('${import.meta.dirname}/../src/host/exec.ts');
    const { openSync } = await import('node:fs');
    await exec(['true']);
    for (;;) try { openSync('/dev/null'); } catch { break; }
    for (const options of [{}, { input: 'text' }])
      await exec(['true'], options).catch((error) => console.log(error.code, error.message));
  `;
  const child = spawn('sh', [
    '-c',
    'ulimit -n 40; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  expect(await new Promise((resolve) => child.once('close', resolve)), output).toBe(0);
  expect(output.match(/host_unsupported There are too many open files/g), output).toHaveLength(2);
});
