import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { findDomainRule, parseHost } from '../../state/egress.ts';
import { ClientHelloReader } from './client-hello.ts';
import type { EgressGate } from './gate.ts';
import { GrowingBuffer } from '../rpc/growing-buffer.ts';

/** Where a tunnel leads, as the guest named it. */
export interface TunnelTarget {
  readonly host: string;
  readonly port: number;
}

/**
 * Carries bytes between a guest and where it was let through to, until both have ended. A TLS client that asks for
 * another server than the tunnel was opened for gets no further: one address often serves many names, and the
 * rules are about names. Its name may be hidden (ECH), and other protocols name nobody: then the address has to do.
 */
export async function carry(
  gate: EgressGate,
  target: TunnelTarget,
  guest: Duplex,
  outside: Duplex,
): Promise<void> {
  const down = pipeline(outside, guest);
  // It may fail while nobody waits for it yet.
  down.catch(() => undefined);
  try {
    const first = await firstWords(guest, (serverName) => isMeant(gate, target, serverName));
    if (typeof first === 'string') {
      gate.refuse(target.host, target.port, `TLS over it asks for another server: ${first}`);
      throw new Error('blocked');
    }
    if (first.length > 0) outside.write(first);
    await Promise.all([down, pipeline(guest, outside)]);
  } catch {
    // Either side has gone, or is to go: nobody is told more by a connection than that it ended.
  } finally {
    guest.destroy();
    outside.destroy();
    await down.catch(() => undefined);
  }
}

function isMeant(gate: EgressGate, { host, port }: TunnelTarget, serverName: string): boolean {
  const asked = parseHost(host);
  // A rule about the address says nothing of names.
  if (!asked || 'address' in asked) return true;
  const named = parseHost(serverName);
  if (!named || 'address' in named) return false;
  if (named.name === asked.name || gate.policy.kind === 'all') return true;
  return findDomainRule(gate.policy, named.name, port) !== undefined;
}

/** What the guest says first, when that is not TLS or for a server that fits; else the name of the other server. */
async function firstWords(guest: Duplex, fits: (serverName: string) => boolean): Promise<Buffer | string> {
  const reader = new ClientHelloReader();
  const said = new GrowingBuffer();
  for (;;) {
    const chunk = await nextChunk(guest);
    if (chunk === undefined) return said.peek();
    said.append(chunk);
    const hello = reader.take(chunk);
    switch (hello.kind) {
      case 'nameless':
        return said.peek();
      case 'named':
        return fits(hello.serverName) ? said.peek() : hello.serverName.slice(0, 255);
      case 'malformed':
        return 'none, since it is malformed';
      case 'unfinished':
    }
  }
}

/** The next piece of a stream that nobody else reads; undefined at its end. */
export async function nextChunk(stream: Duplex): Promise<Buffer | undefined> {
  for (;;) {
    const chunk = stream.read() as Buffer | null;
    if (chunk !== null) return chunk;
    if (stream.readableEnded || stream.destroyed) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ['readable', 'end', 'close', 'error'] as const;
    for (const event of events) stream.once(event, resolve);
    await promise;
    for (const event of events) stream.off(event, resolve);
  }
}

/**
 * Does something for a guest that waits, with a signal that says when it has hung up: by closing, or by an end without
 * having said anything more. One that has said what there is to say before may wait for the answer.
 */
export async function whileThere<T>(guest: Duplex, task: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const hangUp = (): void => controller.abort();
  // A stream whose end nobody reads does not tell that it was closed, either. What came early stays where it is.
  const look = (): void => void (guest.readableLength === 0 && guest.read(0));
  for (const event of ['end', 'close'] as const) guest.once(event, hangUp);
  guest.on('readable', look);
  if (guest.destroyed) hangUp();
  try {
    return await task(controller.signal);
  } finally {
    for (const event of ['end', 'close'] as const) guest.off(event, hangUp);
    guest.off('readable', look);
  }
}
