import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { leavesFor } from '../../../src/engine/leaves-for.ts';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { connectIfRunning, connectOrStart, type ConnectOptions } from '../../../src/engine/rpc/connect.ts';
import { connectAnywhere, engineSocketOf } from '../../../src/engine/rpc/elsewhere.ts';
import { protocolVersion, type HelloResult } from '../../../src/engine/rpc/messages.ts';
import { serveRpc } from '../../../src/engine/rpc/server.ts';
import { identifyProcess } from '../../../src/host/process.ts';

const lastWords = JSON.stringify({
  level: 'fatal',
  code: 'invalid_state',
  message: 'No room left',
  hint: 'Make some',
});

let directory: string;
let options: ConnectOptions;
let connections = 0;
const closers: (() => void)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'banger-connect-'));
  options = {
    socketPath: join(directory, 'engine.sock'),
    startLock: join(directory, 'start'),
    engineLog: join(directory, 'engine.log'),
    engineNote: join(directory, 'engine.json'),
    build: { version: '1.0.0', buildId: 'ours' },
    // Stands in for an engine that dies at once.
    engineArgv: ['/bin/sh', '-c', `echo '${lastWords}' >&2; exit 1`],
    engineEnv: {},
  };
});

afterEach(async () => {
  closers.splice(0).forEach((close) => close());
  await rm(directory, { recursive: true, force: true });
});

async function engineAnswering(
  hello: Partial<HelloResult>,
  leaves: (build: string, schema: number | undefined) => boolean = () => false,
): Promise<void> {
  const result = {
    protocol: protocolVersion,
    build: 'ours',
    version: '0.9.0',
    pid: 1,
    leaving: false,
    ...hello,
  };
  const server = await serveRpc({
    socketPath: options.socketPath,
    routes: [],
    operations: new OperationRegistry(),
    hello: (build, schema) => {
      if (leaves(build, schema)) return { ...result, leaving: true };
      if (result.leaving) setImmediate(() => server.close());
      return result;
    },
    onError: () => undefined,
    onConnections: (count) => (connections = count),
  });
  closers.push(() => server.close());
}

test('a socket in a directory that others can write to is not trusted', async () => {
  await engineAnswering({});
  await chmod(directory, 0o777);
  await expect(connectIfRunning(options)).rejects.toMatchObject({ code: 'invalid_state' });
});

test('an engine of our build is used as it is', async () => {
  await engineAnswering({});
  const client = await connectOrStart(options);
  expect((await client.hello).build).toBe('ours');
  client.close();
});

test('a busy engine of another build is reported, and hung up on', async () => {
  await engineAnswering({ build: 'theirs' });
  await expect(connectOrStart(options)).rejects.toMatchObject({
    code: 'busy',
    message: 'The engine is of another version (0.9.0) and busy',
  });
  // An open connection would keep the command from ending.
  await vi.waitFor(() => expect(connections).toBe(0), 30_000);
});

test('an engine leaves for another build when nothing is under way, and never for one that its database is too new for', () => {
  const engine = { build: 'theirs', schema: 21, hasWork: false };
  const database = '/state/banger.db';
  const leaves = (build: string, schema: number | undefined, hasWork = false): boolean =>
    leavesFor({ client: { build, schema }, engine: { ...engine, hasWork }, database });
  expect([leaves('theirs', 21), leaves('ours', 21), leaves('ours', 22), leaves('ours', 22, true)]).toEqual([
    false,
    true,
    true,
    false,
  ]);
  expect(() => leaves('ours', 20)).toThrow('has version 21, and this banger knows versions up to 20');
  expect(() => leaves('ours', undefined)).toThrow('is too old for it');
});

test('a client that is too old is told so, starts no engine, and the one that is there stays', async () => {
  const engine = { build: 'theirs', schema: 21, hasWork: false };
  await engineAnswering({ build: 'theirs' }, (build, schema) =>
    leavesFor({ client: { build, schema }, engine, database: '/state/banger.db' }),
  );
  const old = { ...options, build: { ...options.build, schema: 20 } };
  await expect(connectOrStart(old)).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringContaining('has version 21, and this banger knows versions up to 20') as string,
    hint: expect.stringContaining('Use the newer banger') as string,
  });
  await vi.waitFor(() => expect(connections).toBe(0), 30_000);
  const client = await connectIfRunning({ ...options, build: { version: '1.0.0', buildId: 'theirs' } });
  expect((await client?.hello)?.leaving).toBe(false);
  client?.close();
});

test('an engine that leaves is replaced', async () => {
  await engineAnswering({ leaving: true });
  await expect(connectOrStart(options)).rejects.toMatchObject({
    code: 'invalid_state',
    message: 'No room left',
    hint: 'Make some',
  });
});

test('an engine that dies without a word is told with where to look', async () => {
  const dying = { ...options, engineArgv: ['/bin/sh', '-c', 'exit 3'] as [string, ...string[]] };
  await expect(connectOrStart(dying)).rejects.toMatchObject({
    code: 'internal',
    message: 'The engine ended at its start (3)',
    hint: expect.stringContaining(options.engineLog) as string,
  });
});

test('where none is running, looking for one starts none', async () => {
  expect(await connectIfRunning(options)).toBeUndefined();
});

test('an engine that dies before it takes our connection is none', async () => {
  // It listens, and is then too busy to take anything.
  const script = `require('net').createServer().listen(process.argv[1], () => {
    console.log('listening');
    for (const end = Date.now() + 30000; Date.now() < end; );
  })`;
  const engine = spawn(process.execPath, ['-e', script, options.socketPath]);
  await once(engine.stdout, 'data');
  const connecting = connectIfRunning(options);
  engine.kill('SIGKILL');
  // Not before it is dead, with all its threads, do we hear how connecting went.
  const proc = `/proc/${engine.pid}`;
  while (readdirSync(`${proc}/task`).length > 1 || !/\) Z /.test(readFileSync(`${proc}/stat`, 'utf8')));
  expect(await connecting).toBeUndefined();
});

/** What an engine leaves that listens there. */
async function noteOf(socket: string, pid = process.pid): Promise<void> {
  const note = { hostname: 'here', socket, process: identifyProcess(pid) };
  await writeFile(options.engineNote, JSON.stringify(note));
}

test('an engine that listens elsewhere, for whoever has another TMPDIR, is the one that runs', async () => {
  await engineAnswering({});
  const there = options.socketPath;
  await noteOf(there);
  options = { ...options, socketPath: join(directory, 'other.sock') };
  expect(await connectIfRunning(options)).toBeUndefined();
  const client = await connectAnywhere(options);
  expect((await client!.hello).build).toBe('ours');
  client!.close();
  const { engineNote } = options;
  expect(engineSocketOf({ engineSocket: options.socketPath, engineNote })).toBe(there);
});

test('one whose socket is gone is told as that while it runs, and there is none when it has ended', async () => {
  const engine = spawn('sleep', ['60']);
  await once(engine, 'spawn');
  await noteOf(options.socketPath, engine.pid);
  await expect(connectAnywhere(options)).rejects.toMatchObject({
    code: 'busy',
    hint: `End it, which keeps VMs running, with: kill ${engine.pid}`,
  });
  engine.kill('SIGKILL');
  await once(engine, 'exit');
  expect(await connectAnywhere(options)).toBeUndefined();
});
