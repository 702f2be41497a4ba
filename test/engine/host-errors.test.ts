import { expect, test } from 'vitest';
import { writeFile } from 'node:fs/promises';
import { BangerError } from '../../src/errors.ts';
import { explainHostError } from '../../src/engine/host-errors.ts';
import { OperationRegistry } from '../../src/engine/operations.ts';

const systemError = (code: string, path?: string): Error =>
  Object.assign(new Error(`${code}: words`), { code, ...(path === undefined ? {} : { path }) });
const explain = (error: unknown) => explainHostError(error, '/home/me/state') as BangerError;

test.each([
  ['ENOSPC', 'The disk is full: "/home/me/state/f" (ENOSPC)', 'banger vm prune'],
  ['EDQUOT', 'The disk quota is used up: "/home/me/state/f" (EDQUOT)', 'banger vm prune'],
  ['EROFS', 'The filesystem is read-only: "/home/me/state/f" (EROFS)', 'BANGER_HOME'],
  ['EACCES', 'The host does not permit it: "/home/me/state/f" (EACCES)', 'ls -ld /home/me/state/f'],
  ['EPERM', 'The host does not permit it: "/home/me/state/f" (EPERM)', 'ls -ld'],
  ['EIO', 'The disk does not read or write: "/home/me/state/f" (EIO)', 'dmesg'],
  ['EMFILE', 'There are too many open files: "/home/me/state/f" (EMFILE)', 'ulimit -n'],
])('%s is told with its path, and with what to do', (code, message, hint) => {
  const error = explain(systemError(code, '/home/me/state/f'));
  expect(error).toBeInstanceOf(BangerError);
  expect(error).toMatchObject({ code: 'host_unsupported', message });
  expect(error.hint).toContain(hint);
});

test('an error that does not say where names the directory of all files, and so does the database', () => {
  expect(explain(systemError('ENOSPC')).message).toBe('The disk is full: "/home/me/state" (ENOSPC)');
  expect(explain(systemError('SQLITE_FULL')).message).toBe(
    'The disk is full: "/home/me/state" (SQLITE_FULL)',
  );
  expect(explain(systemError('SQLITE_READONLY_DBMOVED')).message).toContain('read-only');
});

test('of several errors the one that can be explained is, and what is no refusal of the host stays a bug', () => {
  const bug = new TypeError('x is not a function');
  expect(explain(new AggregateError([bug, systemError('ENOSPC', '/f')], 'both')).message).toContain('"/f"');
  for (const other of [bug, systemError('ENOENT', '/f'), new AggregateError([bug], 'one'), undefined])
    expect(explain(other)).toBe(other);
  const known = new BangerError('busy', 'known');
  expect(explain(known)).toBe(known);
});

test('whoever asked, and whoever lists operations, is told the same', async () => {
  const registry = new OperationRegistry(undefined, undefined, (error) => explainHostError(error, '/state'));
  const signal = new AbortController().signal;
  const task = () => writeFile('/proc/version', 'no');
  const asked = registry.run({ kind: 'vm.create', signal }, task);
  await expect(asked).rejects.toMatchObject({ code: 'host_unsupported' });
  expect(registry.list()[0]!.error).toMatchObject({ code: 'host_unsupported' });
  const question = registry.run({ kind: 'vm.list', signal, isQuestion: true }, task);
  await expect(question).rejects.toMatchObject({ code: 'host_unsupported' });
});
