import { expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import { OperationRegistry, type Progress } from '../../src/engine/operations.ts';

const signal = new AbortController().signal;

test('an operation is listed while it runs and for a while afterwards', async () => {
  const registry = new OperationRegistry();
  await registry.run({ kind: 'vm.create', subject: 'web', signal }, async (operation) => {
    operation.enter('Booting');
    expect(registry.list()).toMatchObject([
      { kind: 'vm.create', state: 'running', progress: { stage: 'Booting' } },
    ]);
  });
  expect(registry.list()).toMatchObject([{ subject: 'web', state: 'done', stages: [{ stage: 'Booting' }] }]);
});

test('cancelling fires the signal, and the operation ends as cancelled', async () => {
  const registry = new OperationRegistry();
  const run = registry.run({ kind: 'x', signal }, (operation) => {
    const done = new Promise<void>((_, reject) =>
      operation.signal.addEventListener('abort', () => reject(operation.signal.reason as Error)),
    );
    expect(registry.cancel(operation.id)).toBe(true);
    return done;
  });
  await expect(run).rejects.toMatchObject({ code: 'cancelled' });
  expect(registry.list()[0]?.state).toBe('cancelled');
});

test('a failure is remembered with its message', async () => {
  const registry = new OperationRegistry();
  const run = registry.run({ kind: 'x', signal }, () =>
    Promise.reject(new BangerError('busy', 'It is busy')),
  );
  await expect(run).rejects.toThrow('It is busy');
  expect(registry.list()[0]).toMatchObject({ state: 'failed', error: 'It is busy' });
});

test('listeners hear of each stage at once, and of progress now and then', async () => {
  const registry = new OperationRegistry();
  const heard: Progress[] = [];
  await registry.run(
    { kind: 'x', signal, onProgress: (progress) => heard.push(progress) },
    async (operation) => {
      operation.enter('One');
      for (let done = 0; done < 1000; done++) operation.progress({ done });
      operation.enter('Two');
    },
  );
  expect(heard.filter((one) => one.done === undefined).map((one) => one.stage)).toEqual(['One', 'Two']);
  expect(heard.length).toBeLessThan(100);
});

test('what was said last is heard, before the next stage and when nothing follows', async () => {
  const registry = new OperationRegistry();
  const heard: Progress[] = [];
  const heardLast = Promise.withResolvers<void>();
  const onProgress = (progress: Progress): void => {
    heard.push(progress);
    if (progress.done === 9) heardLast.resolve();
  };
  await registry.run({ kind: 'x', signal, onProgress }, async (operation) => {
    operation.enter('One');
    for (let done = 0; done < 5; done++) operation.progress({ done });
    operation.enter('Two');
    for (let done = 5; done < 10; done++) operation.progress({ done });
    await heardLast.promise;
  });
  expect(heard.findIndex((one) => one.done === 4)).toBe(heard.findIndex((one) => one.stage === 'Two') - 1);
});

test('only the last fifty finished operations are kept', async () => {
  const registry = new OperationRegistry();
  for (let count = 0; count < 60; count++)
    await registry.run({ kind: String(count), signal }, async () => undefined);
  expect(registry.list().map((one) => one.kind)).toEqual(
    Array.from({ length: 50 }, (_, index) => String(index + 10)),
  );
});
