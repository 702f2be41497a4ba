import { once } from 'node:events';
import { connect as dial, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2 from 'ssh2';
import { afterEach, expect, test, vi } from 'vitest';
import { SshConnection, type SshPatience, type SshTarget } from '../../src/host/ssh.ts';

const patience: SshPatience = {
  connectMs: 5_000,
  startMs: 300,
  settleMs: 5_000,
  pulseMs: 50,
  pulseAnswerMs: 200,
};
const keyPair = (): { private: string; public: string } => {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519');
    if (!(ssh2.utils.parseKey(pair.private) instanceof Error)) return pair;
  }
};
const hostKey = keyPair();
const clientKey = keyPair();

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  sockets.splice(0).forEach((socket) => socket.destroy());
  servers.splice(0).forEach((server) => server.close());
});

async function targetOf(server: Server): Promise<SshTarget> {
  servers.push(server);
  server.on('connection', (socket: Socket) => sockets.push(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const key = { privatePem: clientKey.private, publicLine: clientKey.public };
  return { host: '127.0.0.1', port, user: 'root', key, hostKey: hostKey.public };
}

/** A guest's SSH service; `onExec` is what it does when asked for a program. */
async function guest(onExec: (accept: () => ssh2.ServerChannel) => void): Promise<SshTarget> {
  const service = new ssh2.Server({ hostKeys: [hostKey.private] }, (client) => {
    client.on('error', () => undefined);
    client.on('authentication', (context) => context.accept());
    client.on('session', (accept) => {
      accept().on('exec', (acceptExec) => onExec(acceptExec));
    });
  });
  const server = createServer((socket) => service.injectSocket(socket));
  return targetOf(server);
}

const connect = (target: SshTarget, own: Partial<SshPatience> = {}) =>
  SshConnection.connect(target, new AbortController().signal, { ...patience, ...own });
/** It hangs as a stopped process does: connected, and deaf. */
const hang = (): void => sockets.forEach((socket) => void socket.pause().removeAllListeners('data'));

test('a handshake takes as long as it takes while the guest says something, and one that fell silent is given up', async () => {
  const target = await guest(() => undefined);
  const slowMs = 150;
  /** What the guest says arrives late, one piece after the other; after so many pieces nothing does. */
  const behind = (pieces: number): Promise<SshTarget> =>
    targetOf(
      createServer((client) => {
        const service = dial({ host: target.host, port: target.port });
        sockets.push(service.on('error', () => undefined));
        client.pipe(service);
        let last = Promise.resolve();
        let count = 0;
        service.on('data', (piece: Buffer) => {
          if (++count > pieces) return;
          last = last.then(() => sleep(slowMs)).then(() => void client.write(piece));
        });
      }),
    ).then((relay) => ({ ...target, port: relay.port }));
  // Each piece alone is well within it, all of them are not.
  const own = { connectMs: 4 * slowMs };
  const ssh = await connect(await behind(Infinity), own);
  expect(ssh.isOpen).toBe(true);
  ssh.close();
  await expect(connect(await behind(2), own)).rejects.toThrow('no handshake, and silence for 0.6 s');
});

test('a guest that does not start a program in time is given up', async () => {
  const ssh = await connect(await guest(() => undefined));
  await expect(ssh.exec('x', undefined, (channel) => channel)).rejects.toMatchObject({
    code: 'guest_unreachable',
    message: expect.stringContaining('did not start the program within 0.3 s') as string,
  });
  await ssh.closed;
});

test('a program that is silent is left alone while its guest answers', async () => {
  let program: ssh2.ServerChannel | undefined;
  const ssh = await connect(await guest((accept) => (program = accept())));
  const settle = vi.spyOn(ssh, 'settle');
  const channel = await ssh.exec('x', undefined, (opened) => opened);
  await vi.waitFor(() => expect(settle.mock.settledResults.length).toBeGreaterThan(5), 10_000);
  expect(ssh.isOpen).toBe(true);
  const closed = once(channel.resume(), 'close');
  program!.exit(0);
  program!.end();
  await closed;
  ssh.close();
});

test('a guest that hangs while a program runs is given up, but not one that is paused', async () => {
  let isPaused = true;
  const target = await guest((accept) => void accept());
  const ssh = await connect({ ...target, isPaused: () => isPaused });
  const settle = vi.spyOn(ssh, 'settle');
  const channel = await ssh.exec('x', undefined, (opened) => opened);
  hang();
  const missed = (): number => settle.mock.settledResults.filter(({ type }) => type === 'rejected').length;
  await vi.waitFor(() => expect(missed()).toBeGreaterThan(3), 10_000);
  expect(ssh.isOpen).toBe(true);
  const closed = once(channel.resume(), 'close');
  isPaused = false;
  await closed;
  await ssh.closed;
  expect(ssh.lostError()).toMatchObject({
    code: 'guest_unreachable',
    message: expect.stringContaining('it has not answered for') as string,
  });
});

test.each([
  ['a greeting without end', 'x'.repeat(64 * 1024)],
  ['greeting lines without end', 'hello\r\n'.repeat(8 * 1024)],
  ['a packet of 4 GiB', `SSH-2.0-x\r\n\xff\xff\xff\xff${'x'.repeat(64 * 1024)}`],
])('%s from a guest ends its connection before it fills memory', async (_, text) => {
  const bytes = Buffer.from(text, 'latin1');
  let sent = 0;
  const server = createServer((socket) => {
    const more = (): void => {
      while (!socket.destroyed && socket.write(bytes)) sent += bytes.length;
    };
    socket.on('drain', more);
    more();
  });
  await expect(connect(await targetOf(server))).rejects.toMatchObject({ code: 'guest_unreachable' });
  expect(sent).toBeLessThan(64 * 1024 * 1024);
});
