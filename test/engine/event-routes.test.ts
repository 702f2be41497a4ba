import { expect, test, vi } from 'vitest';
import { sendEvents } from '../../src/engine/event-routes.ts';
import { EventBus, type EngineEvent } from '../../src/engine/events.ts';

const newBus = (): EventBus =>
  new EventBus((error) => {
    throw error;
  });

/** A reader that takes nothing more until it is let. */
function reader() {
  const events: EngineEvent[] = [];
  let gate = Promise.resolve();
  let sent = Promise.withResolvers<void>();
  return {
    events,
    block: () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    next: () => sent.promise,
    send: async (_: string, payload?: Buffer | string) => {
      for (const line of String(payload).trim().split('\n')) events.push(JSON.parse(line) as EngineEvent);
      sent.resolve();
      sent = Promise.withResolvers();
      await gate;
    },
  };
}

const vm = (id: string, action = 'running') => ({ type: 'vm', action, id, name: `vm-${id}` }) as const;

test('a reader that is too slow keeps a bounded number waiting, and is told how many it lost', async () => {
  const bus = newBus();
  const stream = reader();
  const enough = new AbortController();
  const sending = sendEvents(bus, {}, { signal: enough.signal, stream });
  const first = stream.next();
  const go = stream.block();
  bus.publish(vm('first'));
  await first;
  for (let count = 0; count < 1500; count++) bus.publish(vm(String(count)));
  const rest = stream.next();
  go();
  await rest;
  expect(stream.events).toHaveLength(1 + 1 + 1000);
  expect(stream.events[1]).toMatchObject({ type: 'engine', action: 'lost', lost: 500 });
  expect(stream.events[2]!.id).toBe('500');
  enough.abort();
  await expect(sending).rejects.toMatchObject({ code: 'cancelled' });
});

test('what is remembered comes first; with an end in the past nothing else does', async () => {
  const bus = newBus();
  bus.publish(vm('1'));
  bus.publish(vm('2', 'stopped'));
  bus.publish({ type: 'image', action: 'pulled', id: '3' });
  const until = Date.now() + 1;
  const read = async (params: Parameters<typeof sendEvents>[1]): Promise<string[]> => {
    const stream = reader();
    await sendEvents(bus, { since: 0, until, ...params }, { signal: new AbortController().signal, stream });
    return stream.events.map((event) => event.id);
  };
  expect(await read({})).toEqual(['1', '2', '3']);
  expect(await read({ types: ['vm'] })).toEqual(['1', '2']);
  expect(await read({ types: ['vm', 'image'], actions: ['stopped', 'pulled'] })).toEqual(['2', '3']);
  expect(await read({ subjects: ['vm-1'] })).toEqual(['1']);
  expect(await read({ since: until + 1 })).toEqual([]);
});

test('a timer that fires before the clock on the wall has got there ends it, too', async () => {
  const bus = newBus();
  const stream = reader();
  const until = Date.now() + 20;
  const clock = vi.spyOn(Date, 'now').mockReturnValue(until - 10);
  try {
    await sendEvents(bus, { until }, { signal: new AbortController().signal, stream });
  } finally {
    clock.mockRestore();
  }
  expect(stream.events).toEqual([]);
});
