import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { failpoint, failpointNow, failpointsFrom } from '../../src/engine/failpoints.ts';
import { withRollback } from '../../src/engine/lifecycle/rollback.ts';
import { OperationRegistry, type Operation } from '../../src/engine/operations.ts';
import { fakeLog } from '../support/fakes.ts';

const never = new AbortController().signal;

function settingFile(): string {
  const directory = mkdtempSync(join(tmpdir(), 'banger-points-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return join(directory, 'points');
}

/** Runs a task as an operation of kind `test`, with what the environment variable says. */
function run(setting: string, task: (operation: Operation) => Promise<unknown>, signal = never) {
  const registry = new OperationRegistry(failpointsFrom({ BANGER_FAILPOINTS: setting }));
  return registry.run({ kind: 'test', signal }, task);
}

test('steps, stages and points between them are told in the order in which they are reached', async () => {
  const file = settingFile();
  const failing = run(`@${file}`, async (operation) => {
    operation.enter('Looking');
    await withRollback(operation, fakeLog().log, async (step) => {
      await step({ stage: 'row', apply: () => undefined, undo: () => undefined });
      await step({ stage: 'disk', apply: () => failpoint('written') });
      await failpoint('written');
      throw new Error('it broke');
    });
  });
  await expect(failing).rejects.toThrow('it broke');
  expect(readFileSync(`${file}.trace`, 'utf8').trim().split('\n')).toEqual([
    'test/Looking:before',
    'test/row:before',
    'test/row:after',
    'test/disk:before',
    'test/written',
    'test/disk:after',
    'test/written#2',
    'test/row:undo',
  ]);
});

test.each([
  ['error', { code: 'command_failed' }],
  ['enospc', { code: 'ENOSPC' }],
  ['eacces', { code: 'EACCES' }],
  ['timeout', { code: 'timeout' }],
])('a point fails with %s, and only that one', async (failure, expected) => {
  const reached: string[] = [];
  const failing = run(`test/b=${failure}`, async () => {
    for (const name of ['a', 'b', 'c']) {
      await failpoint(name);
      reached.push(name);
    }
  });
  await expect(failing).rejects.toMatchObject(expected);
  expect(reached).toEqual(['a']);
  await expect(run(`test/b=${failure}`, async () => failpointNow('b'))).rejects.toMatchObject(expected);
});

test('a point that hangs ends when its operation is cancelled', async () => {
  const cancel = new AbortController();
  const hanging = run('test/a=hang', () => failpoint('a'), cancel.signal);
  cancel.abort();
  await expect(hanging).rejects.toMatchObject({ code: 'cancelled' });
});

test('a file is read again at every point', async () => {
  const file = settingFile();
  const failing = run(`@${file}`, async () => {
    await failpoint('a');
    writeFileSync(file, 'test/b=error\ntest/c=enospc\n');
    await failpoint('c');
  });
  await expect(failing).rejects.toMatchObject({ code: 'ENOSPC' });
});

test('what is no failpoint is said, not ignored', () => {
  for (const wrong of ['test/a', 'test/a=explode', '=kill'])
    expect(() => failpointsFrom({ BANGER_FAILPOINTS: wrong }), wrong).toThrow('is not POINT=');
  expect(failpointsFrom({})).toBeUndefined();
});

test('outside of an operation, and in one without failpoints, a point is nothing', async () => {
  await failpoint('a');
  await new OperationRegistry().run({ kind: 'test', signal: never }, () => failpoint('a'));
});
