import { randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { userCard } from '../../../src/host/drivers/driver.ts';

/** A shell of the guest's listens there; see guest.ts. */
export const shellPort = 22;
const answerMs = 60_000;
const greeting = 'from the host';

/** What a command prints in the guest, sent to its shell by a port of the host; empty when nothing leads in there. */
export async function inGuest(hostPort: number, command: string): Promise<string> {
  const socket = connect(hostPort, '127.0.0.1');
  socket.setTimeout(answerMs, () => socket.destroy());
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  // Refused and reset are no answers; so is a port that leads nowhere.
  socket.on('error', () => undefined);
  socket.write(`${command}\nexit\n`);
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return text.trim();
}

/** What it listens to sends every datagram back; see echo.c. */
export const echoPort = 53;
/** For how long nothing comes back where nothing will. */
const silentMs = 1_000;
const againMs = 200;

/** Whether what is sent to a UDP port of the host comes back, sent again and again meanwhile, since it may be lost. */
export async function isEchoed(hostPort: number, expected: boolean): Promise<boolean> {
  const sent = `${greeting} ${randomUUID()}`;
  const socket = createSocket('udp4');
  // That nobody listens there is no answer.
  socket.on('error', () => undefined);
  const answer = new Promise<boolean>((resolve) => {
    socket.on('message', (bytes) => bytes.toString() === sent && resolve(true));
  });
  const send = (): void => socket.send(sent, hostPort, '127.0.0.1');
  const again = setInterval(send, againMs);
  send();
  try {
    const silence = sleep(expected ? answerMs : silentMs, false, { ref: false });
    return await Promise.race([answer, silence]);
  } finally {
    clearInterval(again);
    socket.close();
  }
}

/** Listens on the host until the test is over; returns whether the guest gets there, asked by a port that leads in. */
export async function whoReaches(): Promise<(hostPort: number) => Promise<boolean>> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`${greeting}\n`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as { readonly port: number };
  const command = `nc -w 3 ${userCard.gateway} ${port} </dev/null; echo asked`;
  return async (hostPort) => {
    const words = await inGuest(hostPort, command);
    if (!words.endsWith('asked')) throw new Error(`the guest did not answer: "${words}"`);
    return words.includes(greeting);
  };
}
