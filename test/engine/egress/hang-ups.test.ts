import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EgressGate, type EgressWays } from '../../../src/engine/egress/gate.ts';
import { Lookups } from '../../../src/engine/egress/lookups.ts';
import { EgressProxy } from '../../../src/engine/egress/proxy.ts';
import { parseEgress } from '../../../src/state/egress.ts';

let dials: number;
let mostDials: number;
let proxy: EgressProxy;
let port: number;
let close: () => void;

/** A server at which nobody answers: who dials it waits for as long as they like. */
const ways: EgressWays = {
  lookup: () => Promise.reject(new Error('no names here')),
  ownAddresses: () => [],
  dial: ({ signal }) =>
    new Promise<Socket>((_, reject) => {
      mostDials = Math.max(mostDials, ++dials);
      signal?.addEventListener('abort', () => {
        dials--;
        reject(new Error('hung up'));
      });
    }),
};

beforeEach(async () => {
  [dials, mostDials] = [0, 0];
  proxy = new EgressProxy(new EgressGate(parseEgress(['198.41.0.4']), ways), () => 'web');
  const server = createServer({ allowHalfOpen: true }, (socket) => proxy.serve(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
  close = () => server.close();
});
afterEach(() => {
  proxy.closeAll();
  close();
});

const requests = {
  CONNECT: 'CONNECT 198.41.0.4:443 HTTP/1.1\r\n\r\n',
  'a whole URL': 'GET http://198.41.0.4/ HTTP/1.1\r\nHost: 198.41.0.4\r\n\r\n',
  SOCKS: '\x05\x01\x00\x05\x01\x00\x01\xc6\x29\x00\x04\x01\xbb',
} as const;

function ask(words: string): Socket {
  const client = connect(port, '127.0.0.1');
  client.on('error', () => undefined);
  client.write(Buffer.from(words, 'latin1'));
  return client.resume();
}

test.each(Object.entries(requests))(
  'whoever asks by %s for a server that does not answer, and hangs up, leaves no connection behind',
  async (_, words) => {
    for (const hangUp of [
      (client: Socket) => client.destroy(),
      (client: Socket) => client.resetAndDestroy(),
    ]) {
      const client = ask(words);
      await expect.poll(() => dials).toBe(1);
      hangUp(client);
      await expect.poll(() => dials).toBe(0);
    }
  },
);

test('a guest that hangs up and asks again has no more connections that are not there yet than it may have', async () => {
  for (let round = 0; round < 4; round++) {
    const clients = Array.from({ length: 200 }, () => ask(requests.CONNECT));
    await expect.poll(() => dials).toBeGreaterThan(0);
    for (const client of clients) client.resetAndDestroy();
  }
  await expect.poll(() => dials).toBe(0);
  expect(mostDials).toBeLessThanOrEqual(256);
});

const forGuest = (client: object, signal = new AbortController().signal) => ({ client, signal });

test('a guest whose names are not found in time keeps no other guest from its own', async () => {
  const asked: string[] = [];
  const lookups = new Lookups((name) => {
    asked.push(name);
    return name.startsWith('slow') ? new Promise(() => undefined) : Promise.resolve(['198.41.0.4']);
  });
  const [slow, other] = [{}, {}];
  for (let at = 0; at < 9; at++) void lookups.lookup(`slow-${at}`, forGuest(slow));
  expect(await lookups.lookup('git', forGuest(other))).toEqual(['198.41.0.4']);
  expect(asked).toEqual(['slow-0', 'git']);
});

test('guests that ask for many names take turns, and who has hung up has none', async () => {
  const asked: string[] = [];
  let answer: (() => void)[] = [];
  const lookups = new Lookups((name) => {
    asked.push(name);
    return new Promise((resolve) => answer.push(() => resolve([])));
  });
  const gone = new AbortController();
  const guests = ['a', 'b', 'c'].map((name) => ({ name, client: {} }));
  const all = guests.flatMap(({ name, client }) =>
    [1, 2].map((at) => lookups.lookup(`${name}${at}`, forGuest(client))),
  );
  const left = lookups.lookup('a3', forGuest(guests[0]!.client, gone.signal));
  gone.abort();
  await expect(left).rejects.toThrow('nobody wants to know');
  let isDone = false;
  const done = Promise.all(all).then(() => (isDone = true));
  while (!isDone) {
    const [first, ...others] = answer;
    answer = others;
    first?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await done;
  expect(asked).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'c2']);
});

test('who hangs up while a name is looked up waits no longer, and the guest’s next one waits for that', async () => {
  const asked: string[] = [];
  const found = Promise.withResolvers<string[]>();
  const lookups = new Lookups((name) => {
    asked.push(name);
    return found.promise;
  });
  const [guest, gone] = [{}, new AbortController()];
  const first = lookups.lookup('first', forGuest(guest, gone.signal));
  const second = lookups.lookup('second', forGuest(guest));
  gone.abort();
  await expect(first).rejects.toThrow('nobody wants to know');
  expect(asked).toEqual(['first']);
  found.resolve(['198.41.0.4']);
  expect([await second, asked]).toEqual([['198.41.0.4'], ['first', 'second']]);
});
