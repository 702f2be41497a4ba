import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { deleteVm } from '../../../src/engine/lifecycle/delete-vm.ts';
import { setVm } from '../../../src/engine/lifecycle/set-vm.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import type { Guest, GuestExit } from '../../../src/engine/guest.ts';
import { SocketKeeper } from '../../../src/engine/ports/socket-keeper.ts';
import { reconcile } from '../../../src/engine/reconciler.ts';
import { killProcess } from '../../../src/host/process.ts';
import { getVm, type Vm } from '../../../src/state/vms.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
let guestServer: Server;
let guestPath: string;
let hostPath: string;
/** What connects to the guest's socket, on its side */
let atGuest: Socket[];
/** Those of the guest, from the first */
let relays: Socket[];

beforeEach(async () => {
  engine = fakeEngine();
  const { runtimeDirectory, stateDirectory: root } = engine.context.layout;
  mkdirSync(runtimeDirectory);
  await createTestVm(engine, { name: 'first', start: false });
  guestPath = join(root, 'guest.sock');
  hostPath = join(root, 'host.sock');
  atGuest = [];
  relays = [];
  guestServer = createServer({ allowHalfOpen: true }, (socket) => void atGuest.push(socket));
  await new Promise<void>((resolve) => guestServer.listen(guestPath, resolve));
  replaceKeeper();
});
afterEach(async () => {
  for (const socket of atGuest) socket.destroy();
  guestServer.close();
  await engine.close();
});

/** A guest whose sockets are this host's. */
const guest = {
  connectSocket: async (path: string, { signal }: { signal: AbortSignal }) => {
    // What it holds back for a guest that does not read yet is as much as a channel of SSH does.
    const stdio = connect({
      path,
      allowHalfOpen: true,
      writableHighWaterMark: 2 * 1024 * 1024,
    } as NetConnectOpts);
    signal.addEventListener('abort', () => stdio.destroy());
    relays.push(stdio);
    const stderr = new Readable({ read: () => undefined });
    const exit = new Promise<GuestExit>((resolve) => {
      stdio.once('error', (error) => {
        stderr.push(error.message);
        setImmediate(() => resolve({ code: 1 }));
      });
      stdio.once('close', () => resolve({ code: 0 }));
    });
    return { stdio, stderr, exit, resize: () => {}, sendSignal: () => {}, close: () => stdio.destroy() };
  },
} as unknown as Guest;

/** As a new engine's: the old one was killed, and took nothing back. */
function replaceKeeper(fail: () => void = () => undefined): void {
  const keeper = new SocketKeeper(() => {
    fail();
    return { ...engine.context, guest: async () => guest };
  });
  Object.assign(engine.context, { sockets: keeper });
}

const operation = () => fakeOperation().operation;
const create = (name = 'web') => createTestVm(engine, { name, publishSockets: [{ hostPath, guestPath }] });
const set = (vm: Vm, change: { publishSockets?: Vm['sockets']; unpublishSockets?: string[] }) =>
  setVm(
    engine.context,
    { id: vm.id, params: { removeLabels: [], publish: [], unpublish: [], ...change } },
    operation(),
  );
const dial = (): Socket => connect({ path: hostPath, allowHalfOpen: true });
const dialled = async (): Promise<[Socket, Socket]> => {
  const next = new Promise<Socket>((resolve) => guestServer.once('connection', resolve));
  const client = dial();
  return [client, await next];
};
const listeners = () =>
  readdirSync(engine.context.layout.runtimeDirectory).filter((name) => !name.endsWith('.control'));

test('bytes go both ways, and each way ends by itself', async () => {
  await create();
  const [client, server] = await dialled();
  server.end('said all');
  expect((await buffer(client)).toString()).toBe('said all');
  const heard = buffer(server);
  client.write('still ');
  client.end('talking');
  expect((await heard).toString()).toBe('still talking');

  const [second, secondServer] = await dialled();
  second.end('question');
  expect((await buffer(secondServer)).toString()).toBe('question');
  secondServer.end('answer');
  expect((await buffer(second)).toString()).toBe('answer');
});

test('what is said last reaches a guest that has said all, and has yet to read it', async () => {
  await create();
  const [client, server] = await dialled();
  server.pause();
  server.end('said all');
  expect((await buffer(client)).toString()).toBe('said all');
  const bytes = 1024 * 1024;
  client.end(Buffer.alloc(bytes, 1));
  await vi.waitFor(() => expect(relays[0]!.writableEnded).toBe(true));
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  expect((await buffer(server)).length).toBe(bytes);
});

test('when there are as many connections as can be, others are hung up on, and the log says so once', async () => {
  await create();
  const clients = Array.from({ length: 64 }, dial);
  await vi.waitFor(() => expect(atGuest).toHaveLength(64));
  expect((await buffer(dial())).length).toBe(0);
  expect((await buffer(dial())).length).toBe(0);
  expect(engine.log.filter((line) => line.includes('64 connections already'))).toHaveLength(1);
  for (const client of clients) client.destroy();
});

test('the socket is for its user alone, and there while the VM runs', async () => {
  const umask = vi.spyOn(process, 'umask');
  const vm = await create();
  // It is the whole process's: files that others make meanwhile would get it.
  expect(umask).not.toHaveBeenCalledWith(expect.anything());
  umask.mockRestore();
  expect(statSync(hostPath).mode & 0o777).toBe(0o600);
  expect(readlinkSync(hostPath)).toContain(engine.context.layout.runtimeDirectory);
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  expect([existsSync(hostPath), listeners()]).toEqual([false, []]);
  await startVm(engine.context, vm.id, operation());
  expect(statSync(hostPath).isSocket()).toBe(true);
  await deleteVm(engine.context, vm.id, operation());
  expect([existsSync(hostPath), listeners()]).toEqual([false, []]);
});

test('a guest that does not listen is told by the end of the connection, and in the log', async () => {
  await create();
  guestServer.close();
  expect((await buffer(dial())).toString()).toBe('');
  expect(engine.log.join('\n')).toMatch(/did not reach ".*guest\.sock": .*ENOENT/);
});

test('the engine that adopts a VM listens where the killed one has left everything', async () => {
  await create();
  replaceKeeper();
  await reconcile(engine.context);
  const [client, server] = await dialled();
  server.end('adopted');
  expect((await buffer(client)).toString()).toBe('adopted');
});

test('of what leads into an adopted VM, one socket that cannot be made keeps nothing else away', async () => {
  const other = { hostPath: `${hostPath}.other`, guestPath };
  const { id } = await createTestVm(engine, {
    name: 'web',
    publishSockets: [{ hostPath, guestPath }, other],
  });
  replaceKeeper();
  unlinkSync(hostPath);
  writeFileSync(hostPath, 'precious');
  const adopted: string[] = [];
  engine.machines.get(id)!.reach = 'none';
  const watch = vi.spyOn(engine.context.portFollowers, 'watch').mockImplementation((vm) => {
    adopted.push(vm.name);
  });
  await reconcile(engine.context);
  watch.mockRestore();
  expect(engine.log.join('\n')).toMatch(/published sockets could not be set right: .*host\.sock" is there/);
  expect([adopted, engine.machines.get(id)!.reach]).toEqual([['web'], 'all']);
  const next = new Promise<Socket>((resolve) => guestServer.once('connection', resolve));
  const client = connect({ path: other.hostPath, allowHalfOpen: true });
  (await next).end('adopted');
  expect((await buffer(client)).toString()).toBe('adopted');
});

test('of two sockets, one that cannot be taken back does not keep the other, and leads nowhere', async () => {
  let failures = 0;
  replaceKeeper(() => {
    if (failures-- > 0) throw new Error('no');
  });
  const other = `${hostPath}.other`;
  const vm = await createTestVm(engine, {
    name: 'web',
    publishSockets: [
      { hostPath, guestPath },
      { hostPath: other, guestPath },
    ],
  });
  const [client] = await dialled();
  failures = 1;
  await expect(engine.context.sockets.drop(vm.id)).rejects.toThrow('no');
  expect((await buffer(client)).length).toBe(0);
  expect([existsSync(other), listeners()]).toEqual([false, []]);
});

test('what could not be taken back when a VM stopped is no reason to leave links', async () => {
  let failures = 0;
  replaceKeeper(() => {
    if (failures-- > 0) throw new Error('no');
  });
  const vm = await create();
  failures = 1;
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  expect(engine.log).toContainEqual(expect.stringMatching(/published sockets was not taken back: .*no/));
  expect([lstatSync(hostPath, { throwIfNoEntry: false }), listeners()]).toEqual([undefined, []]);
});

test('what is left of a VM that died with its engine is gone with the next one', async () => {
  const vm = await create();
  replaceKeeper();
  await killProcess(engine.vmms.get(vm.id)!);
  await reconcile(engine.context);
  expect(getVm(engine.context.db, vm.id).state).toBe('stopped');
  expect([lstatSync(hostPath, { throwIfNoEntry: false }), listeners()]).toEqual([undefined, []]);
});

test('a path that is taken is told before anything boots, and what is there stays', async () => {
  writeFileSync(hostPath, 'precious');
  await expect(create()).rejects.toMatchObject({ code: 'busy' });
  expect(engine.specs).toEqual([]);
  expect(statSync(hostPath).size).toBe(8);
});

test('a path that came to be taken while the VM was stopped keeps it from starting, and stays when it is deleted', async () => {
  const vm = await create();
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  writeFileSync(hostPath, 'precious');
  const starts = engine.specs.length;
  await expect(startVm(engine.context, vm.id, operation())).rejects.toMatchObject({ code: 'busy' });
  expect(engine.specs.length).toBe(starts);
  await deleteVm(engine.context, vm.id, operation());
  expect(statSync(hostPath).size).toBe(8);
});

test('a path is one VM’s, running or not', async () => {
  const vm = await create();
  await stopVm(engine.context, { id: vm.id, timeoutMs: 50 }, operation());
  await expect(create('other')).rejects.toMatchObject({
    code: 'already_exists',
    hint: expect.stringContaining(`banger vm port remove web ${hostPath}`) as string,
  });
});

test('sockets are added and taken back while a VM runs, with the connections to them', async () => {
  const vm = await createTestVm(engine);
  expect(await set(vm, { publishSockets: [{ hostPath, guestPath }] })).toMatchObject({
    applied: ['sockets'],
  });
  const [client] = await dialled();
  const ended = buffer(client);
  await set(vm, { unpublishSockets: [hostPath] });
  expect((await ended).length).toBe(0);
  expect([existsSync(hostPath), listeners(), getVm(engine.context.db, vm.id).sockets]).toEqual([
    false,
    [],
    [],
  ]);
  await expect(set(vm, { unpublishSockets: [hostPath] })).rejects.toMatchObject({ code: 'not_found' });
});

test('when one of two paths is taken, neither is published', async () => {
  const vm = await createTestVm(engine);
  const taken = `${hostPath}.taken`;
  const asked = [
    { hostPath, guestPath },
    { hostPath: taken, guestPath },
  ];
  // Somebody makes it after we have looked.
  const { match } = engine.context.sockets;
  Object.assign(engine.context.sockets, {
    match: (one: Vm) => {
      if (one.sockets.length > 0) writeFileSync(taken, '');
      return match.call(engine.context.sockets, one);
    },
  });
  await expect(set(vm, { publishSockets: asked })).rejects.toMatchObject({ code: 'busy' });
  expect([existsSync(hostPath), existsSync(taken), listeners()]).toEqual([false, true, []]);
  expect(getVm(engine.context.db, vm.id).sockets).toEqual([]);
});
