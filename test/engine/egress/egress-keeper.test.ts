import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { EgressKeeper } from '../../../src/engine/egress/egress-keeper.ts';
import { proxyPort } from '../../../src/engine/egress/guest-egress.ts';
import type { SshConnection } from '../../../src/host/ssh.ts';
import { parseEgress } from '../../../src/state/egress.ts';
import type { Vm } from '../../../src/state/vms.ts';
import { openDatabase } from '../../../src/state/database.ts';
import { fakeLog } from '../../support/fakes.ts';

/** A connection to a guest whose loopback is a server of this test. */
class FakeWay {
  readonly #closed = Promise.withResolvers<void>();
  readonly closed = this.#closed.promise;
  isOpen = true;
  readonly stopped: number[] = [];
  serve: ((stream: Duplex) => void) | undefined;

  async listenInGuest(port: number, onConnection: (stream: Duplex) => void): Promise<void> {
    expect(port).toBe(proxyPort);
    this.serve = onConnection;
  }

  async stopListening(port: number): Promise<void> {
    this.stopped.push(port);
  }

  close(): void {
    this.isOpen = false;
    this.#closed.resolve();
  }
}

const ways: FakeWay[] = [];
const guest = { isRunning: true, connects: true };
let keeper: EgressKeeper;
let loopback: Server;
let port: number;
const db = openDatabase(':memory:');

beforeEach(async () => {
  ways.length = 0;
  Object.assign(guest, { isRunning: true, connects: true });
  const context = {
    db,
    log: fakeLog().log,
    handles: { get: () => (guest.isRunning ? {} : undefined) },
    guests: {
      connect: async () => {
        if (!guest.connects) throw new Error('no answer');
        const way = new FakeWay();
        ways.push(way);
        return way as unknown as SshConnection;
      },
    },
  } as unknown as EngineContext;
  keeper = new EgressKeeper(() => context, {
    lookup: async () => ['198.41.0.4'],
    ownAddresses: () => [],
    dial: async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    },
  });
  // What is outside: it says something first.
  loopback = createServer((socket) => socket.on('error', () => undefined).write('welcome'));
  await new Promise<void>((resolve) => loopback.listen(0, '127.0.0.1', resolve));
  port = (loopback.address() as AddressInfo).port;
});
afterEach(() => {
  keeper.close();
  loopback.close();
});

const vm = (...rules: string[]): Vm =>
  ({ id: 'a', name: 'web', network: 'user', egress: parseEgress(rules) }) as unknown as Vm;

/** What a program in the guest is answered that asks the proxy for a tunnel, and its connection. */
async function ask(host: string): Promise<{ answer: string; socket: ReturnType<typeof connect> }> {
  const entry = createServer((socket) => ways.at(-1)!.serve!(socket));
  await new Promise<void>((resolve) => entry.listen(0, '127.0.0.1', resolve));
  const socket = connect((entry.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => undefined).write(`CONNECT ${host}:443 HTTP/1.1\r\n\r\n`);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  entry.close();
  return { answer: chunk.toString().split('\r\n')[0]!, socket };
}

test('a guest with rules gets a proxy by them, and new rules end what the old ones allowed', async () => {
  await keeper.match(vm('git.example.org'));
  const { answer, socket } = await ask('git.example.org');
  expect(answer).toBe('HTTP/1.1 200 Connection established');
  expect((await ask('www.example.org')).answer).toBe('HTTP/1.1 403 Forbidden');
  expect(keeper.log('a').map(({ verdict }) => verdict)).toEqual(['allowed', 'blocked']);

  await keeper.match(vm('www.example.org'));
  await once(socket, 'close');
  expect((await ask('git.example.org')).answer).toBe('HTTP/1.1 403 Forbidden');
  expect((await ask('www.example.org')).answer).toContain('200');
  expect(ways).toHaveLength(1);
});

test('a way that is lost is made again, as long as the VM runs', async () => {
  await keeper.match(vm('git.example.org'));
  ways[0]!.close();
  await expect.poll(() => ways.length, { timeout: 10_000 }).toBe(2);
  expect((await ask('git.example.org')).answer).toContain('200');
  guest.isRunning = false;
  ways[1]!.close();
  await expect.poll(() => keeper.state('a'), { timeout: 10_000 }).toBeUndefined();
  expect(ways).toHaveLength(2);
});

test('a guest that does not answer is told of, and tried again', async () => {
  guest.connects = false;
  await expect(keeper.match(vm('none'))).rejects.toThrow('no answer');
  expect(keeper.state('a')).toEqual({ isUp: false, problem: 'no answer' });
  guest.connects = true;
  await expect.poll(() => keeper.state('a'), { timeout: 10_000 }).toEqual({ isUp: true, problem: undefined });
});

test('a guest that may reach everything has its port back at once', async () => {
  await keeper.match(vm('none'));
  await keeper.match(vm('all'));
  expect([ways[0]!.stopped, ways[0]!.isOpen, keeper.state('a')]).toEqual([[proxyPort], false, undefined]);
});
