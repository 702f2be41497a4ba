import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { duplexPair, type Duplex } from 'node:stream';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { GuestExit, GuestProcess } from '../../../src/engine/guest.ts';
import { datagramFrame, DatagramFrames, overFrame } from '../../../src/engine/ports/datagram-frames.ts';
import { DatagramPort } from '../../../src/engine/ports/datagram-port.ts';
import { findFreePort } from '../../../src/host/ports.ts';

interface FakeEnd {
  /** What the guest's program reads and writes */
  readonly stdio: Duplex;
  readonly frames: [number, string][];
  end(error?: string): void;
}

let ends: FakeEnd[];
let said: string[];
let refuse: Error | undefined;
let port: DatagramPort;
let sockets: Socket[];

/** The guest's part of it, which keeps all that it is sent, and says for itself only that it forgets. */
function fakeEnd(): GuestProcess {
  const [ours, guests] = duplexPair();
  const exit = Promise.withResolvers<GuestExit>();
  const stderr = new Readable({ read: () => undefined });
  const frames: [number, string][] = [];
  const parser = new DatagramFrames((other, datagram) => {
    frames.push([other, datagram.toString()]);
    if (datagram === 'over') guests.write(overFrame(other));
  });
  guests.on('data', (chunk: Buffer) => parser.push(chunk));
  guests.once('end', () => exit.resolve({ code: 0 }));
  const end = (error?: string): void => {
    if (error !== undefined) stderr.push(error);
    setImmediate(() => exit.resolve({ code: 1 }));
  };
  ends.push({ stdio: guests, frames, end });
  return {
    stdio: ours,
    stderr,
    exit: exit.promise,
    resize: () => undefined,
    sendSignal: () => undefined,
    close: end,
  };
}

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'hrtime'] });
  [ends, said, sockets, refuse] = [[], [], [], undefined];
  const hostPort = await findFreePort({ protocol: 'udp', bind: '127.0.0.1' });
  port = await DatagramPort.open(
    { protocol: 'udp', bind: '127.0.0.1', hostPort, guestPort: 53, chosen: true },
    {
      connect: async () => {
        if (refuse) throw refuse;
        return Promise.resolve(fakeEnd());
      },
      say: (why) => void said.push(why),
    },
  );
});
afterEach(() => {
  vi.useRealTimers();
  for (const socket of sockets) socket.close();
  port.close();
});

/** Somebody who sends datagrams to the port, and what they hear. */
async function somebody(): Promise<{ say(text: string): Promise<void>; heard: string[] }> {
  const socket = createSocket('udp4');
  sockets.push(socket);
  const heard: string[] = [];
  socket.on('message', (text: Buffer, from: RemoteInfo) => {
    expect(from.port).toBe(port.port.hostPort);
    heard.push(text.toString());
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  const say = (text: string): Promise<void> =>
    new Promise((resolve) => socket.send(text, port.port.hostPort, '127.0.0.1', () => resolve()));
  return { say, heard };
}

const framesOf = (index: number, count: number) =>
  vi.waitFor(
    () => {
      expect(ends[index]?.frames.length ?? 0).toBeGreaterThanOrEqual(count);
      return ends[index]!.frames;
    },
    { interval: 1 },
  );
const textsOf = (index: number) => (ends[index]?.frames ?? []).map(([, text]) => text);
const answer = (index: number, other: number, text: string): void => {
  for (const bytes of datagramFrame(other, Buffer.from(text))) ends[index]!.stdio.write(bytes);
};

test('whoever sends is told apart, and gets their own answers, from the port that they sent to', async () => {
  const [one, two] = [await somebody(), await somebody()];
  await one.say('from one');
  await framesOf(0, 1);
  await two.say('from two');
  expect(await framesOf(0, 2)).toEqual([
    [0, 'from one'],
    [1, 'from two'],
  ]);
  answer(0, 1, 'to two');
  answer(0, 0, '');
  // In pieces, as SSH may bring it.
  for (const byte of Buffer.concat(datagramFrame(0, Buffer.from('to one'))))
    ends[0]!.stdio.write(Buffer.from([byte]));
  await vi.waitFor(() => expect([one.heard, two.heard]).toEqual([['', 'to one'], ['to two']]));
  // Nobody has this number.
  answer(0, 2, 'to anybody');
  answer(0, 0, 'last');
  await vi.waitFor(() => expect(one.heard).toEqual(['', 'to one', 'last']));
});

test('whoever is silent for long is forgotten, and when all are, so is the guest; each may come again', async () => {
  const [one, two] = [await somebody(), await somebody()];
  await one.say('one');
  await framesOf(0, 1);
  await vi.advanceTimersByTimeAsync(60_000);
  await two.say('two');
  await framesOf(0, 2);
  await vi.advanceTimersByTimeAsync(40_000);
  expect((await framesOf(0, 3)).at(-1)).toEqual([0, 'over']);
  // What was on its way to one who is forgotten is nobody else's.
  answer(0, 0, 'late');
  answer(0, 1, 'to two');
  await vi.waitFor(() => expect(two.heard).toEqual(['to two']));
  expect(one.heard).toEqual([]);
  await vi.advanceTimersByTimeAsync(110_000);
  await vi.waitFor(() => expect(ends[0]!.stdio.readableEnded).toBe(true));
  await one.say('again');
  expect(await framesOf(1, 1)).toEqual([[expect.any(Number), 'again']]);
  expect(said).toEqual([]);
});

test('there is room for those who come last, whoever came before, and a number is given anew when the guest has let go', async () => {
  const crowd = await Promise.all(Array.from({ length: 250 }, somebody));
  for (const [index, { say }] of crowd.entries()) {
    await say(String(index));
    await vi.waitFor(() => expect(textsOf(0)).toContain(String(index)), { interval: 1 });
  }
  const { frames } = ends[0]!;
  const over = frames.filter(([, text]) => text === 'over').map(([number]) => number);
  // The first ones, in the order in which they were silent.
  expect(over.slice(0, 5)).toEqual([0, 1, 2, 3, 4]);
  const last = frames.findLast(([, text]) => text === '249')!;
  answer(0, last[0], 'to the last');
  await vi.waitFor(() => expect(crowd[249]!.heard).toEqual(['to the last']));
  expect(crowd.slice(0, 249).flatMap(({ heard }) => heard)).toEqual([]);
});

test('a guest whose end is lost is found again by the next datagram, and said to be lost once', async () => {
  const one = await somebody();
  refuse = new Error('it does not answer');
  await one.say('lost');
  await vi.waitFor(() => expect(said).toEqual(['it does not answer']));
  refuse = undefined;
  vi.advanceTimersByTime(1_000);
  await one.say('arrives');
  expect(await framesOf(0, 1)).toEqual([[0, 'arrives']]);
  ends[0]!.end('no such \u001b[31mport\n');
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  vi.advanceTimersByTime(60_000);
  await one.say('again');
  expect(await framesOf(1, 1)).toEqual([[0, 'again']]);
  // What is no frame ends it as well.
  ends[1]!.stdio.write(Buffer.from([0, 1, 0, 0]));
  await vi.waitFor(() => expect(said.at(-1)).toBe('the guest sends what are no frames'));
});

test('a port that is taken is an error', async () => {
  await expect(
    DatagramPort.open(port.port, { connect: () => Promise.reject(new Error('no')), say: () => undefined }),
  ).rejects.toMatchObject({ code: 'busy', message: expect.stringContaining('/udp is taken') as string });
});
