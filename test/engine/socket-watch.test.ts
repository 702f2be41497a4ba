import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OperationRegistry } from '../../src/engine/operations.ts';
import { RpcClient } from '../../src/engine/rpc/client.ts';
import { protocolVersion } from '../../src/engine/rpc/messages.ts';
import { serveRpc, type RpcServer } from '../../src/engine/rpc/server.ts';
import { SocketWatch } from '../../src/engine/socket-watch.ts';
import { until } from '../support/banger.ts';

const build = { version: '1.0.0', buildId: 'ours' };
let root: string;
let directory: string;
let socketPath: string;
let server: RpcServer;
let watch: SocketWatch;
let isFull = false;
const logged: string[] = [];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'banger-socket-'));
  directory = join(root, 'run');
  socketPath = join(directory, 'engine.sock');
  mkdirSync(directory, { mode: 0o700 });
  server = await serveRpc({
    socketPath,
    routes: [],
    operations: new OperationRegistry(),
    hello: () => ({
      protocol: protocolVersion,
      build: build.buildId,
      version: build.version,
      pid: 1,
      leaving: false,
    }),
    onError: () => undefined,
    onConnections: () => undefined,
  });
  isFull = false;
  logged.length = 0;
  const listenAgain = async (): Promise<void> => {
    if (isFull) throw new Error('there is no room');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    await server.listenAgain();
  };
  watch = new SocketWatch(
    socketPath,
    listenAgain,
    (level, message) => void logged.push(`${level} ${message}`),
  );
  // What the kernel tells of is what counts here.
  watch.start(3_600_000);
});
afterEach(async () => {
  watch.close();
  server.close();
  await server.hangUp();
  rmSync(root, { recursive: true, force: true });
});

async function answers(): Promise<boolean> {
  try {
    const client = await RpcClient.dial(socketPath, build);
    await client.hello;
    client.close();
    return true;
  } catch {
    return false;
  }
}

test.each([
  ['the socket', () => rmSync(socketPath)],
  ['its directory', () => rmSync(directory, { recursive: true })],
])('when %s is removed it is made again, and whoever was connected stays so', async (_, remove) => {
  const before = await RpcClient.dial(socketPath, build);
  await before.hello;
  let isClosed = false;
  void before.closed.then(() => (isClosed = true));
  for (let times = 0; times < 2; times++) {
    remove();
    await until('the engine is found again', answers);
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
  }
  expect(isClosed).toBe(false);
  before.close();
  expect(logged).toEqual(Array(2).fill('warn the socket was gone, and is there again'));
});

test('what somebody else put there gives way', async () => {
  rmSync(socketPath);
  writeFileSync(socketPath, 'x');
  await until('the engine is found again', answers);
});

test('where it cannot be made that is said once, and tried again', async () => {
  isFull = true;
  rmSync(socketPath);
  for (let times = 0; times < 2; times++) await watch.look();
  expect(await answers()).toBe(false);
  isFull = false;
  await watch.look();
  expect(await answers()).toBe(true);
  expect(logged).toEqual([
    'error no client finds the engine: its socket is gone, and there is no room',
    'warn the socket was gone, and is there again',
  ]);
});
