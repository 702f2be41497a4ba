import { expect, test } from 'vitest';
import { EventBus, type EngineEvent } from '../../src/engine/events.ts';

const errors: unknown[] = [];
const newBus = (): EventBus => new EventBus((error) => errors.push(error));

test('who listens hears of everything from then on, in order, until it stops', () => {
  const bus = newBus();
  const heard: string[] = [];
  bus.publish({ type: 'vm', action: 'creating', id: '1' });
  const stop = bus.subscribe((event) => heard.push(event.action));
  bus.publish({ type: 'vm', action: 'starting', id: '1' });
  bus.publish({ type: 'vm', action: 'running', id: '1' });
  stop();
  bus.publish({ type: 'vm', action: 'stopped', id: '1' });
  expect(heard).toEqual(['starting', 'running']);
});

test('a listener that throws keeps neither the others nor the publisher from anything', () => {
  const bus = newBus();
  const heard: string[] = [];
  bus.subscribe(() => {
    throw new Error('mine');
  });
  bus.subscribe((event) => heard.push(event.action));
  bus.publish({ type: 'vm', action: 'running', id: '1' });
  expect(heard).toEqual(['running']);
  expect(errors.splice(0)).toMatchObject([{ message: 'mine' }]);
});

test('waiting for the next event that matches ends with it, or with the signal', async () => {
  const bus = newBus();
  const isStopped = (event: EngineEvent): boolean => event.action === 'stopped';
  const next = bus.next(isStopped, new AbortController().signal);
  bus.publish({ type: 'vm', action: 'running', id: '1' });
  bus.publish({ type: 'vm', action: 'stopped', id: '2' });
  expect((await next).id).toBe('2');

  const given = new AbortController();
  const never = bus.next(isStopped, given.signal);
  given.abort();
  await expect(never).rejects.toMatchObject({ code: 'cancelled' });
  await expect(bus.next(isStopped, given.signal)).rejects.toMatchObject({ code: 'cancelled' });
});

test('the last thousand are remembered, with their times', () => {
  const bus = newBus();
  for (let count = 0; count < 1100; count++)
    bus.publish({ type: 'vm', action: 'running', id: String(count) });
  const all = bus.since(0);
  expect(all).toHaveLength(1000);
  expect(all[0]!.id).toBe('100');
  expect(all[0]!.time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  expect(bus.since(Date.parse(all.at(-1)!.time) + 1)).toEqual([]);
});

test('a reason of any length is cut', () => {
  const bus = newBus();
  bus.publish({ type: 'vm', action: 'stopped', id: '1', reason: 'x'.repeat(1_000_000) });
  expect(bus.since(0)[0]!.reason).toHaveLength(1000);
});
