import { expect, test } from 'vitest';
import { createLocks, KeyedLock, withoutLocks } from '../../src/engine/locks.ts';

const never = new AbortController().signal;

test('tasks on one key run one after the other, in the order they came', async () => {
  const lock = new KeyedLock('vm');
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = lock.run('a', never, async () => {
    await gate.promise;
    order.push('first');
  });
  const second = lock.run('a', never, async () => void order.push('second'));
  gate.resolve();
  await Promise.all([first, second]);
  expect(order).toEqual(['first', 'second']);
});

test('tasks on different keys do not wait for each other', async () => {
  const lock = new KeyedLock('vm');
  const gate = Promise.withResolvers<void>();
  const held = lock.run('a', never, () => gate.promise);
  await lock.run('b', never, async () => undefined);
  gate.resolve();
  await held;
});

test('a cancelled waiter leaves at once, and those behind it still wait for the holder', async () => {
  const lock = new KeyedLock('vm');
  const gate = Promise.withResolvers<void>();
  const cancel = new AbortController();
  let isHolderDone = false;
  const holder = lock.run('a', never, async () => {
    await gate.promise;
    isHolderDone = true;
  });
  const waiter = lock.run('a', cancel.signal, async () => 'ran');
  const behind = lock.run('a', never, async () => isHolderDone);
  cancel.abort();
  await expect(waiter).rejects.toMatchObject({ code: 'cancelled' });
  gate.resolve();
  expect(await behind).toBe(true);
  await holder;
});

test('a key is forgotten when nobody wants it any more', async () => {
  const lock = new KeyedLock('vm');
  await lock.run('a', never, async () => expect(lock.isTaken('a')).toBe(true));
  await new Promise(setImmediate);
  expect(lock.isTaken('a')).toBe(false);
});

test('the reservation lock may be taken inside the VM lock', async () => {
  const locks = createLocks();
  const inner = locks.vm.run('a', never, () => locks.reservation.run('name', never, async () => 'in'));
  expect(await inner).toBe('in');
});

test.each([
  ['reservation', 'vm'],
  ['publish', 'reservation'],
  ['vm', 'workspace'],
  ['workspace', 'vm'],
  ['vm', 'vm'],
] as const)('taking %s, then %s throws: it is against the order', async (outer, inner) => {
  const locks = createLocks();
  const nested = locks[outer].run('a', never, () => locks[inner].run('b', never, async () => undefined));
  await expect(nested).rejects.toThrow('Lock order');
});

test('work that outlives a lock may take it later, once its starter has let go', async () => {
  const locks = createLocks();
  let later: Promise<string> | undefined;
  await locks.vm.run('a', never, async () => {
    later = withoutLocks(() => locks.vm.run('a', never, async () => 'later'));
  });
  expect(await later).toBe('later');
});
