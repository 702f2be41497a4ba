import { mkdtemp, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import * as z from 'zod/mini';
import { BangerError } from '../../../src/errors.ts';
import { cancelOperations } from '../../../src/engine/cancel-operations.ts';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { RpcClient } from '../../../src/engine/rpc/client.ts';
import { protocolVersion } from '../../../src/engine/rpc/messages.ts';
import { method, questionStream, streamMethod } from '../../../src/engine/rpc/method.ts';
import { startTimeoutMs } from '../../../src/engine/rpc/start-engine.ts';
import { lockTimeoutMs } from '../../../src/engine/state-directory.ts';
import { fakeLog } from '../../support/fakes.ts';
import { route, serveRpc, streamRoute, type Route, type RpcServer } from '../../../src/engine/rpc/server.ts';

const build = { version: '1.0.0', buildId: 'build-a' };
const double = method('test.double', z.object({ value: z.int() }), z.object({ value: z.int() }));
const failing = method('test.fail', z.object({ kind: z.string() }), z.object({}));
const waiting = method('test.wait', z.object({}), z.object({}));
const upper = streamMethod('test.upper', z.object({}));
const flood = streamMethod('test.flood', z.object({}));
const asked = questionStream('test.asked', z.object({}));
const stuck = streamMethod('test.stuck', z.object({}));

let directory: string;
let server: RpcServer;
let undone: Promise<void>;
let operations: OperationRegistry;
const errors: unknown[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'banger-rpc-'));
  errors.length = 0;
  operations = new OperationRegistry();
  const finished = Promise.withResolvers<void>();
  undone = finished.promise;
  const routes: Route[] = [
    route(double, ({ value }, operation) => {
      operation.enter('Doubling');
      return { value: value * 2 };
    }),
    route(failing, ({ kind }) => {
      if (kind === 'known') throw new BangerError('busy', 'It is busy', { hint: 'Wait' });
      throw new Error('a bug');
    }),
    route(waiting, async (_, operation) => {
      operation.enter('Waiting');
      await new Promise<void>((resolve) => operation.signal.addEventListener('abort', () => resolve()));
      finished.resolve();
      throw new BangerError('cancelled', 'Cancelled');
    }),
    streamRoute(upper, async (_, __, stream) => {
      const ended = Promise.withResolvers<void>();
      stream.onFrame(async (frame) => {
        if (frame.type === 'stdin-end') ended.resolve();
        else await stream.send('stdout', frame.payload.toString().toUpperCase());
      });
      await ended.promise;
      return { code: 7 };
    }),
    streamRoute(flood, async (_, __, stream) => {
      for (;;) await stream.send('stdout', Buffer.alloc(64 * 1024));
    }),
    streamRoute(asked, async (_, __, stream) => {
      for (;;) await stream.send('stdout', Buffer.alloc(64 * 1024));
    }),
    streamRoute(stuck, async (_, __, stream) => {
      const signalled = Promise.withResolvers<string>();
      stream.onFrame(async (frame) => {
        if (frame.type === 'signal') signalled.resolve(frame.payload.toString());
        else await signalled.promise;
      });
      return { signal: await signalled.promise };
    }),
  ];
  server = await serveRpc({
    socketPath: join(directory, 'engine.sock'),
    routes,
    operations,
    hello: (client) => ({
      protocol: protocolVersion,
      build: build.buildId,
      version: build.version,
      pid: process.pid,
      leaving: client === 'build-b',
    }),
    onError: (error) => errors.push(error),
    onConnections: () => undefined,
  });
});

afterEach(async () => {
  server.close();
  await rm(directory, { recursive: true, force: true });
});

const dial = (buildId = 'build-a') => RpcClient.dial(join(directory, 'engine.sock'), { ...build, buildId });

test('the socket belongs to its owner alone from the start', async () => {
  expect((await stat(join(directory, 'engine.sock'))).mode & 0o777).toBe(0o600);
});

test('a call is answered, and its stages arrive before the answer', async () => {
  const client = await dial();
  const stages: string[] = [];
  client.onProgress((event) => stages.push(event.stage));
  expect(await client.call(double, { value: 21 })).toEqual({ value: 42 });
  expect(stages).toEqual(['Doubling']);
  client.close();
});

test('several calls share one connection', async () => {
  const client = await dial();
  const answers = await Promise.all([1, 2, 3].map((value) => client.call(double, { value })));
  expect(answers).toEqual([{ value: 2 }, { value: 4 }, { value: 6 }]);
  client.close();
});

test('an error for people keeps its code, words and hint; a bug becomes internal and is logged', async () => {
  const client = await dial();
  await expect(client.call(failing, { kind: 'known' })).rejects.toMatchObject({
    code: 'busy',
    message: 'It is busy',
    hint: 'Wait',
  });
  await expect(client.call(failing, { kind: 'bug' })).rejects.toMatchObject({ code: 'internal' });
  expect(errors).toHaveLength(1);
  client.close();
});

test('parameters that break the contract are refused by name', async () => {
  const client = await dial();
  const wrong = { value: 'x' } as unknown as { value: number };
  await expect(client.call(double, wrong)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining('value') as string,
  });
  client.close();
});

test('cancelling reaches the handler, and its answer still comes back', async () => {
  const client = await dial();
  const call = client.call(waiting, {});
  await client.hello;
  client.cancel();
  await expect(call).rejects.toMatchObject({ code: 'cancelled' });
});

test('a client that vanishes cancels what it waited for', async () => {
  const client = await dial();
  const call = client.call(waiting, {});
  await client.hello;
  client.close();
  await expect(call).rejects.toThrow();
  await undone;
});

test('a stream carries megabytes both ways and ends with the exit frame', async () => {
  const client = await dial();
  const stream = await client.stream(upper, {});
  const received: Buffer[] = [];
  stream.onFrame((frame) => received.push(frame.payload));
  const sent = 'abc'.repeat(1_000_000);
  stream.send('stdin', sent);
  stream.send('stdin-end');
  expect(await stream.ended).toEqual({ code: 7 });
  expect(Buffer.concat(received).toString()).toBe(sent.toUpperCase());
});

test('a signal is heard while the program is slow to take its input', async () => {
  const client = await dial();
  const stream = await client.stream(stuck, {});
  stream.send('stdin', 'x'.repeat(100_000));
  stream.send('signal', 'INT');
  expect(await stream.ended).toEqual({ signal: 'INT' });
});

test('a reader that has stopped keeps neither work nor questions from ending, and an engine from leaving', async () => {
  const clients = await Promise.all([dial(), dial()]);
  const streams = [await clients[0]!.stream(flood, {}), await clients[1]!.stream(asked, {})];
  for (const stream of streams) stream.pause();
  expect([operations.workCount, operations.runningCount]).toEqual([1, 2]);
  const { log, lines } = fakeLog();
  await cancelOperations(operations, log);
  expect(lines).toEqual([]);
  await vi.waitFor(() => expect(operations.runningCount).toBe(0));
  // It hears why, should it read on.
  for (const stream of streams) {
    stream.onFrame(() => undefined);
    stream.resume();
  }
  await expect(streams[0]!.ended).rejects.toThrow('the engine was stopped');
  await expect(streams[1]!.ended).rejects.toThrow('The engine ended');
});

test('a client waits longer for a new engine than that does for the one before it', () => {
  expect(startTimeoutMs).toBeGreaterThan(lockTimeoutMs);
});

test('an idle engine tells a client of another build that it is leaving', async () => {
  const client = await dial('build-b');
  expect((await client.hello).leaving).toBe(true);
  client.close();
});

test('whoever does not say hello, or no JSON, is hung up on', async () => {
  for (const words of [
    '{"jsonrpc":"2.0","id":1,"method":"test.double","params":{"value":1}}\n',
    'GET / HTTP/1.1\n',
  ]) {
    const socket = connect(join(directory, 'engine.sock'));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.write(words);
    socket.resume();
    await closed;
  }
  expect(await (await dial()).call(double, { value: 1 })).toEqual({ value: 2 });
});

test('a detached call is answered when it has begun, and goes on when the client has gone', async () => {
  const client = await dial();
  expect(await client.detach(waiting, {})).toMatch(/^op-/);
  client.close();
  await expect(Promise.race([undone, setImmediate('still running')])).resolves.toBe('still running');
  const other = await dial();
  await expect(other.detach(failing, { kind: 'known' })).rejects.toMatchObject({ code: 'busy' });
  other.close();
});

test('frames and lines of impossible length end that connection, and no other', async () => {
  const hello = {
    jsonrpc: '2.0',
    id: 1,
    method: 'hello',
    params: { protocol: protocolVersion, build: 'build-a', version: '1' },
  };
  const request = { jsonrpc: '2.0', id: 2, method: 'test.upper', params: {} };
  const begin = `${JSON.stringify(hello)}\n`;
  const attacks: Buffer[] = [
    Buffer.from(`${begin}${JSON.stringify(request)}\n\0\xff\xff\xff\xff`, 'latin1'),
    Buffer.from(`${begin}${JSON.stringify(request)}\n\x7f\0\0\0\x01x`, 'latin1'),
    Buffer.concat([Buffer.from(begin), Buffer.alloc(17 * 1024 * 1024, 'x')]),
  ];
  for (const bytes of attacks) {
    const socket = connect(join(directory, 'engine.sock'));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(bytes);
    await closed;
  }
  const client = await dial();
  expect(await client.call(double, { value: 2 })).toEqual({ value: 4 });
  client.close();
});
