import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { hasForeignConnection } from '../../src/host/tcp-connections.ts';

/** Listens on one address, and connects to it when told to, by IPv4 or by IPv4 in IPv6. */
const program = `
const net = require('node:net');
const [address, dialled] = process.argv.slice(1);
const server = net.createServer().listen(0, address, () => {
  const { port } = server.address();
  const told = () => console.log(port);
  if (!dialled) return told();
  net.connect(port, dialled, told);
});
process.stdin.resume().on('end', () => process.exit());`;

let other: ChildProcess | undefined;
let own: Socket | undefined;

afterEach(async () => {
  own?.destroy();
  if (other?.exitCode !== null) return;
  const exit = once(other, 'exit');
  other.stdin?.end();
  await exit;
});

async function start(address: string, dialled = ''): Promise<number> {
  other = spawn(process.execPath, ['-e', program, address, dialled], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [chunk] = (await once(other.stdout!, 'data')) as [Buffer];
  return Number(chunk.toString());
}

test('another program that is connected with an address is seen, and with another address is not', async () => {
  const port = await start('127.77.0.2', '127.77.0.2');
  expect(hasForeignConnection({ ports: [], address: '127.77.0.2' })).toBe(true);
  expect(hasForeignConnection({ ports: [], address: '127.77.0.3' })).toBe(false);
  expect(hasForeignConnection({ ports: [port] })).toBe(true);
  expect(hasForeignConnection({ ports: [port + 1] })).toBe(false);
});

test('so is one that speaks IPv4 by a socket of IPv6, as Java does', async () => {
  await start('127.77.0.4', '::ffff:127.77.0.4');
  expect(hasForeignConnection({ ports: [], address: '127.77.0.4' })).toBe(true);
});

test('a connection of our own is not', async () => {
  const port = await start('127.77.0.5');
  own = connect(port, '127.77.0.5');
  await once(own, 'connect');
  expect(hasForeignConnection({ ports: [port], address: '127.77.0.5' })).toBe(false);
});
