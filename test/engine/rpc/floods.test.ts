import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as z from 'zod/mini';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { RpcClient } from '../../../src/engine/rpc/client.ts';
import { encodeFrame, FrameReader, maxFrameBytes } from '../../../src/engine/rpc/frames.ts';
import { encodeLine, LineReader } from '../../../src/engine/rpc/lines.ts';
import { protocolVersion } from '../../../src/engine/rpc/messages.ts';
import { method, question, streamMethod } from '../../../src/engine/rpc/method.ts';
import { route, serveRpc, streamRoute, type RpcServer } from '../../../src/engine/rpc/server.ts';

const double = question('test.double', z.object({ value: z.int() }), z.object({ value: z.int() }));
const waiting = method('test.wait', z.object({}), z.object({}));
const deaf = streamMethod('test.deaf', z.object({}));

const hello = encodeLine({
  jsonrpc: '2.0',
  id: 1,
  method: 'hello',
  params: { protocol: protocolVersion, build: 'ours', version: '1' },
});
const request = (id: number, name: string): string =>
  encodeLine({ jsonrpc: '2.0', id, method: name, params: {} });

let directory: string;
let socketPath: string;
let server: RpcServer;
const errors: unknown[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'banger-floods-'));
  socketPath = join(directory, 'engine.sock');
  errors.length = 0;
  const untilCancelled = async (signal: AbortSignal): Promise<Record<string, never>> => {
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    return {};
  };
  server = await serveRpc({
    socketPath,
    operations: new OperationRegistry(),
    routes: [
      route(double, ({ value }) => ({ value: value * 2 })),
      route(waiting, (_, { signal }) => untilCancelled(signal)),
      streamRoute(deaf, (_, { signal }) => untilCancelled(signal)),
    ],
    hello: () => ({ protocol: protocolVersion, build: 'ours', version: '1', pid: 1, leaving: false }),
    onError: (error) => errors.push(error),
    onConnections: () => undefined,
    greetTimeoutMs: 1_000,
  });
});

afterEach(async () => {
  server.close();
  await server.hangUp();
  await rm(directory, { recursive: true, force: true });
});

/** Speaks to the engine without its client; `closed` settles when the engine has hung up. */
function rawClient(): { readonly socket: Socket; readonly closed: Promise<unknown>; said(): string } {
  const socket = connect(socketPath);
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString()));
  socket.on('error', () => undefined);
  return { socket, closed: new Promise((resolve) => socket.once('close', resolve)), said: () => text };
}

async function expectStillAnswering(): Promise<void> {
  const client = await RpcClient.dial(socketPath, { version: '1', buildId: 'ours' });
  expect(await client.call(double, { value: 21 })).toEqual({ value: 42 });
  client.close();
}

test('a client that never greets is hung up on', async () => {
  const silent = rawClient();
  const slow = rawClient();
  slow.socket.write(hello.slice(0, 20));
  await Promise.all([silent.closed, slow.closed]);
  await expectStillAnswering();
});

test('a greeting without end is hung up on long before it fills memory', async () => {
  const { socket, closed } = rawClient();
  socket.write(Buffer.alloc(1024 * 1024, 'x'));
  await closed;
  expect(errors).toMatchObject([{ message: 'RPC message is longer than 65536 bytes' }]);
  await expectStillAnswering();
});

test('empty frames that nobody reads are not kept without end', async () => {
  const { socket, closed } = rawClient();
  socket.write(hello + request(2, 'test.deaf'));
  const empty = encodeFrame('stdin');
  const flood = Buffer.concat(Array.from({ length: 50_000 }, () => empty));
  socket.write(flood);
  await closed;
  await expectStillAnswering();
});

test('requests beyond what one connection may have under way are refused, the others go on', async () => {
  const { socket, said } = rawClient();
  socket.write(hello);
  for (let id = 2; id < 102; id++) socket.write(request(id, 'test.wait'));
  const refusals = (): number => said().split('requests at a time on one connection').length - 1;
  await expect.poll(refusals).toBe(100 - 64);
  socket.destroy();
  await expectStillAnswering();
});

test('megabytes in tiny pieces are put together in time that grows with their length', () => {
  const reader = new FrameReader();
  const sent = encodeFrame('stdin', Buffer.alloc(maxFrameBytes, 'y'));
  const frames = [...sent].flatMap((byte) => reader.push(Buffer.of(byte)));
  expect(frames).toHaveLength(1);
  expect(frames[0]!.payload.equals(sent.subarray(5))).toBe(true);

  const lines: unknown[] = [];
  const lineReader = new LineReader();
  const text = encodeLine({ text: 'z'.repeat(1024 * 1024) });
  for (const byte of Buffer.from(text)) lineReader.push(Buffer.of(byte), (line) => lines.push(line));
  expect(lines).toEqual([JSON.parse(text)]);
});

test('frames cut at every place are the same frames', () => {
  const sent = Buffer.concat([
    encodeFrame('stdin', 'abc'),
    encodeFrame('stdin-end'),
    encodeFrame('signal', 'INT'),
  ]);
  for (let cut = 0; cut <= sent.length; cut++) {
    const reader = new FrameReader();
    const frames = [...reader.push(sent.subarray(0, cut)), ...reader.push(sent.subarray(cut))];
    expect(frames.map(({ type, payload }) => [type, payload.toString()])).toEqual([
      ['stdin', 'abc'],
      ['stdin-end', ''],
      ['signal', 'INT'],
    ]);
  }
});
