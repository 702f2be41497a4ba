import { createServer, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { sshProxy } from '../../src/commands/ssh-proxy.ts';

const servers: Server[] = [];
afterEach(() => servers.splice(0).forEach((server) => server.close()));

async function listen(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, onSocket);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as { port: number }).port;
}

function start(port: number) {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const codes: number[] = [];
  const cli = {
    call: async () => ({ vm: 'web', address: '127.0.0.1', port }),
    standardInput: () => ({ stream: input, isTerminal: false }),
    exitWith: (code: number) => codes.push(code),
  } as unknown as Cli;
  return { input, output, codes, done: sshProxy(cli, ['web.vm'], output, { totalMs: 200, pauseMs: 1 }) };
}

test('bytes go both ways, all of them, until the guest has said everything', async () => {
  const port = await listen((socket) => {
    socket.write('hello ');
    socket.on('end', () => socket.end('last words'));
    socket.pipe(socket, { end: false });
  });
  const { input, output, done } = start(port);
  const sent = Buffer.alloc(3_000_000, 'x');
  input.end(sent);
  const chunks: Buffer[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  await done;
  const got = Buffer.concat(chunks);
  expect(got.subarray(0, 6).toString()).toBe('hello ');
  expect(got.length).toBe(6 + sent.length + 10);
  expect(got.subarray(-10).toString()).toBe('last words');
});

test('it ends when the guest hangs up, though ssh is still there', async () => {
  const { done, codes } = start(await listen((socket) => socket.end('bye')));
  await done;
  expect(codes).toEqual([]);
});

test('a server that is too busy to greet is asked again, and hears all that ssh says once', async () => {
  let turnedAway = 0;
  const heard: Buffer[] = [];
  const port = await listen((socket) => {
    socket.on('error', () => undefined);
    if (++turnedAway <= 3) return void socket.destroy();
    socket.on('data', (chunk: Buffer) => heard.push(chunk));
    socket.on('end', () => socket.end());
    socket.write('SSH-2.0-test\r\n');
  });
  const { input, output, done } = start(port);
  input.end('SSH-2.0-client');
  await done;
  expect(String(output.read())).toBe('SSH-2.0-test\r\n');
  expect(Buffer.concat(heard).toString()).toBe('SSH-2.0-client');
});

test('one that never greets is told', async () => {
  const port = await listen((socket) => socket.destroy());
  await expect(start(port).done).rejects.toThrow('does not answer: it hangs up before it says anything');
});

test('a port at which nobody listens is told with the VM and where to look', async () => {
  const port = await listen(() => undefined);
  servers.pop()!.close();
  await expect(start(port).done).rejects.toMatchObject({
    code: 'guest_unreachable',
    message: expect.stringMatching(/VM "web" does not answer: .*ECONNREFUSED/) as string,
    hint: expect.stringContaining('banger vm logs web') as string,
  });
});

test('without a host it is not for people', async () => {
  await expect(sshProxy({} as Cli, [], new PassThrough())).rejects.toThrow('is for ssh to run');
});
