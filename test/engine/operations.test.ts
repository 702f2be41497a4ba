import { expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import { withRollback } from '../../src/engine/lifecycle/rollback.ts';
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
  expect(registry.list()[0]).toMatchObject({ state: 'failed', error: { message: 'It is busy' } });
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

test('of finished operations the last hundred are kept, and the last twenty of a kind', async () => {
  const registry = new OperationRegistry();
  for (let count = 0; count < 30; count++)
    await registry.run({ kind: 'vm.exec', signal }, async () => undefined);
  expect(registry.list()).toHaveLength(20);
  for (let count = 0; count < 110; count++)
    await registry.run({ kind: String(count), signal }, async () => undefined);
  expect(registry.list().map((one) => one.kind)).toEqual(
    Array.from({ length: 100 }, (_, index) => String(index + 10)),
  );
});

test('questions are not listed, and keep the engine from being idle', async () => {
  const told: string[] = [];
  const registry = new OperationRegistry(undefined, (view) => told.push(view.kind));
  await registry.run({ kind: 'vm.list', signal, isQuestion: true }, async () => {
    expect(registry.list()).toEqual([]);
    expect(registry.runningCount).toBe(1);
  });
  expect(registry.runningCount).toBe(0);
  expect(told).toEqual([]);
});

test('two watch one operation from its current stage to its end; one that gives up does not end it', async () => {
  const registry = new OperationRegistry();
  const go = Promise.withResolvers<void>();
  const run = registry.run({ kind: 'x', signal }, async (operation) => {
    operation.enter('One');
    await go.promise;
    operation.enter('Two');
    throw new BangerError('busy', 'It is busy', { hint: 'Wait' });
  });
  run.catch(() => undefined);
  const { id } = registry.list()[0]!;
  const heard: string[] = [];
  const bored = new AbortController();
  const watches = [
    registry.watch(id, signal, ({ stage }) => heard.push(`a ${stage}`)),
    registry.watch(id, signal, ({ stage }) => heard.push(`b ${stage}`)),
  ];
  const given = registry.watch(id, bored.signal);
  bored.abort();
  await expect(given).rejects.toMatchObject({ code: 'cancelled' });
  go.resolve();
  const ends = await Promise.all(watches);
  expect(heard).toEqual(['a One', 'b One', 'a Two', 'b Two']);
  expect(ends[0]).toMatchObject({
    state: 'failed',
    error: { code: 'busy', message: 'It is busy', hint: 'Wait' },
    stages: [{ stage: 'One' }, { stage: 'Two' }],
  });
  expect(await registry.watch(id, signal)).toEqual(ends[1]);
});

test('an operation is found by the beginning of its id, if that is enough', async () => {
  const registry = new OperationRegistry();
  await registry.run({ kind: 'a', signal }, async () => undefined);
  const { id } = registry.list()[0]!;
  expect(registry.get(id.slice(0, -1)).id).toBe(id);
  await registry.run({ kind: 'b', signal }, async () => undefined);
  expect(registry.get(id).kind).toBe('a');
  expect(() => registry.get('op-')).toThrow('could be any of 2 operations');
  expect(() => registry.get('nothing')).toThrow('There is no operation "nothing"');
});

test('what a cancelled operation took back is said', async () => {
  const registry = new OperationRegistry();
  const run = registry.run({ kind: 'x', signal }, (operation) =>
    withRollback(
      operation,
      () => undefined,
      async (step) => {
        await step({ stage: 'First', apply: () => undefined, undo: () => undefined });
        await step({ stage: 'Not undone', apply: () => undefined });
        await step({
          stage: 'Second',
          apply: () => void registry.cancel(operation.id),
          undo: () => undefined,
        });
        await step({ stage: 'Never', apply: () => undefined });
      },
    ),
  );
  await expect(run).rejects.toMatchObject({ code: 'cancelled' });
  expect(registry.list()[0]).toMatchObject({ state: 'cancelled', undone: ['Second', 'First'] });
});
