import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import * as z from 'zod/mini';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { RpcClient } from '../../../src/engine/rpc/client.ts';
import { connectIfRunning } from '../../../src/engine/rpc/connect.ts';
import { protocolVersion } from '../../../src/engine/rpc/messages.ts';
import { method, question, streamMethod } from '../../../src/engine/rpc/method.ts';
import { askUntilBegun } from '../../../src/engine/rpc/retry.ts';
import { route, serveRpc, streamRoute, type RpcServer } from '../../../src/engine/rpc/server.ts';

const change = method('test.change', z.object({}), z.object({ engine: z.string() }));
const ask = question('test.ask', z.object({}), z.object({ engine: z.string() }));
const tell = streamMethod('test.tell', z.object({}));
const build = { version: '1.0.0', buildId: 'ours' };

let directory: string;
let socketPath: string;
const open: RpcServer[] = [];
/** Names of the engines that did something, in order */
let begun: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'banger-retry-'));
  socketPath = join(directory, 'engine.sock');
  begun = [];
});

afterEach(async () => {
  for (const server of open.splice(0)) {
    server.close();
    await server.hangUp();
  }
  await rm(directory, { recursive: true, force: true });
});

/** `work` is what the engine does before it answers. */
async function engine(name: string, work: () => Promise<void> = () => Promise.resolve()): Promise<RpcServer> {
  const answer = async (): Promise<{ engine: string }> => {
    begun.push(name);
    await work();
    return { engine: name };
  };
  const server = await serveRpc({
    socketPath,
    operations: new OperationRegistry(),
    routes: [route(change, answer), route(ask, answer), streamRoute(tell, answer)],
    hello: () => ({ protocol: protocolVersion, build: 'ours', version: '1', pid: 1, leaving: false }),
    onError: () => undefined,
    onConnections: () => undefined,
  });
  open.push(server);
  return server;
}

/** Dials the first engine, which leaves between hello and request; then the one that came after it. */
function dialLeaving(first: RpcServer): () => Promise<RpcClient> {
  let isFirst = true;
  return async () => {
    const client = await RpcClient.dial(socketPath, build);
    await client.hello;
    if (isFirst) {
      isFirst = false;
      first.close();
      await engine('second');
    }
    return client;
  };
}

test('a change, a question and a stream that reach an engine that is leaving go to the next one', async () => {
  const changed = await askUntilBegun(dialLeaving(await engine('first')), false, async (client) => {
    const answer = await client.call(change, {});
    client.close();
    return answer;
  });
  expect(changed).toEqual({ engine: 'second' });
  const asked = await askUntilBegun(dialLeaving(open.at(-1)!), true, async (client) => {
    const answer = await client.call(ask, {});
    client.close();
    return answer;
  });
  expect(asked).toEqual({ engine: 'second' });
  const told = await askUntilBegun(dialLeaving(open.at(-1)!), false, async (client) => {
    const stream = await client.stream(tell, {});
    return stream.ended;
  });
  expect(told).toEqual({ engine: 'second' });
  expect(begun).toEqual(['second', 'second', 'second']);
});

test('a change that had begun is not asked for again, a question is', async () => {
  const dialAgain = (): Promise<RpcClient> => RpcClient.dial(socketPath, build);
  const dies = async (): Promise<void> => {
    const dying = open.at(-1)!;
    dying.close();
    await engine('next');
    void dying.hangUp();
    await new Promise(() => undefined);
  };
  await engine('first', dies);
  await expect(askUntilBegun(dialAgain, false, (client) => client.call(change, {}))).rejects.toMatchObject({
    code: 'internal',
    message: 'The engine ended before it answered',
  });
  expect(begun).toEqual(['first']);

  open.at(-1)!.close();
  await engine('third', dies);
  const answer = await askUntilBegun(dialAgain, true, async (client) => {
    const said = await client.call(ask, {});
    client.close();
    return said;
  });
  expect(answer).toEqual({ engine: 'next' });
});

test('whoever cancels while an engine leaves is not sent to the next one', async () => {
  const first = await engine('first');
  const client = await RpcClient.dial(socketPath, build);
  await client.hello;
  first.close();
  const call = askUntilBegun(
    () => Promise.resolve(client),
    false,
    () => {
      const asked = client.call(change, {});
      client.cancel();
      return asked;
    },
  );
  await expect(call).rejects.toMatchObject({ code: 'cancelled' });
  expect(begun).toEqual([]);
});

test('where no engine runs, nobody is asked', async () => {
  const options = { socketPath } as Parameters<typeof connectIfRunning>[0];
  const unasked = askUntilBegun(
    () => connectIfRunning(options),
    true,
    () => Promise.reject(new Error('asked')),
  );
  expect(await unasked).toBeUndefined();
});

test('an answer of megabytes is whole, though the engine ends at once', async () => {
  const server = await engine('x'.repeat(8 * 1024 * 1024));
  const client = await RpcClient.dial(socketPath, build);
  const call = client.call(ask, {});
  await vi.waitFor(() => expect(begun).toHaveLength(1), 30_000);
  server.close();
  await server.hangUp();
  expect((await call).engine).toHaveLength(8 * 1024 * 1024);
});
