import { expect, test } from 'vitest';
import { withRollback } from '../../../src/engine/lifecycle/rollback.ts';
import { fakeLog, fakeOperation } from '../../support/fakes.ts';

test('when a step fails, it and those before it are taken back in reverse order', async () => {
  const { operation, stages } = fakeOperation();
  const undone: string[] = [];
  const step = (stage: string, apply = () => undefined) => ({
    stage,
    apply,
    undo: () => void undone.push(stage),
  });
  const fail = (): never => {
    throw new Error('no space left');
  };
  const run = withRollback(operation, fakeLog().log, async (take) => {
    await take(step('row'));
    await take(step('disk'));
    await take(step('boot', fail));
    await take(step('never'));
  });
  await expect(run).rejects.toThrow('no space left');
  expect(undone).toEqual(['boot', 'disk', 'row']);
  expect(stages).toEqual(['row', 'disk', 'boot']);
});

test('when an undo fails, the others still run, but the first step keeps what names the rest', async () => {
  const { log, lines } = fakeLog();
  const undone: string[] = [];
  const run = withRollback(fakeOperation().operation, log, async (take) => {
    await take({ stage: 'row', apply: () => undefined, undo: () => void undone.push('row') });
    await take({ stage: 'disk', apply: () => undefined, undo: () => void undone.push('disk') });
    await take({
      stage: 'boot',
      apply: () => Promise.reject(new Error('it died')),
      undo: () => Promise.reject(new Error('device busy')),
    });
  });
  await expect(run).rejects.toThrow('it died');
  expect(undone).toEqual(['disk']);
  expect(lines).toEqual(['undo failed: boot: device busy']);
});

test('a cancelled operation takes no further step', async () => {
  const { operation, cancel } = fakeOperation();
  let ran = false;
  const run = withRollback(operation, fakeLog().log, async (take) => {
    cancel();
    await take({ stage: 'late', apply: () => void (ran = true) });
  });
  await expect(run).rejects.toMatchObject({ code: 'cancelled' });
  expect(ran).toBe(false);
});
