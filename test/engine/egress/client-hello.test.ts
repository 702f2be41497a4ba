import fc from 'fast-check';
import { connect } from 'node:tls';
import { Duplex } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { ClientHelloReader, type Hello } from '../../../src/engine/egress/client-hello.ts';

const readClientHello = (bytes: Buffer): Hello => new ClientHelloReader().take(bytes);

/** Each byte by itself, until something is known; and how many those were. */
function readByBytes(bytes: Buffer): { readonly hello: Hello; readonly count: number } {
  const reader = new ClientHelloReader();
  let hello: Hello = { kind: 'unfinished' };
  let count = 0;
  while (hello.kind === 'unfinished' && count < bytes.length)
    hello = reader.take(bytes.subarray(count, ++count));
  return { hello, count };
}

function inRecords(body: Buffer, size: number): Buffer {
  const parts = Array.from({ length: Math.ceil(body.length / size) }, (_, at) =>
    body.subarray(at * size, (at + 1) * size),
  );
  return Buffer.concat(
    parts.flatMap((part) => [Buffer.from([0x16, 3, 1, part.length >> 8, part.length & 0xff]), part]),
  );
}

/** What a real client says first. */
async function helloOf(servername: string | undefined): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = new Duplex({
      read: () => undefined,
      write: (chunk: Buffer, _encoding, done) => {
        resolve(chunk);
        done();
      },
    });
    connect({ socket, servername, rejectUnauthorized: false }).on('error', () => undefined);
  });
}

test('the server name of a real ClientHello is found, in however many records and pieces it comes', async () => {
  const hello = await helloOf('git.example.org');
  expect(readClientHello(hello)).toEqual({ kind: 'named', serverName: 'git.example.org' });
  for (let length = 0; length < hello.length; length++)
    expect(readClientHello(hello.subarray(0, length))).toEqual({ kind: 'unfinished' });
  const split = (at: number): Buffer => {
    const body = hello.subarray(5);
    const record = (part: Buffer): Buffer =>
      Buffer.concat([Buffer.from([0x16, 3, 1, part.length >> 8, part.length & 0xff]), part]);
    return Buffer.concat([record(body.subarray(0, at)), record(body.subarray(at))]);
  };
  for (const at of [1, 3, 4, 50, 200])
    expect(readClientHello(split(at))).toEqual({ kind: 'named', serverName: 'git.example.org' });
  expect(readByBytes(hello).hello).toEqual({ kind: 'named', serverName: 'git.example.org' });
});

test('however small its pieces and records are, each byte is copied a few times at most', async () => {
  const body = (await helloOf('git.example.org')).subarray(5);
  // One that says that it is as long as is believed, and padding for that.
  const long = Buffer.concat([Buffer.from([1, 1, 0, 0]), body.subarray(4), Buffer.alloc(2 ** 16)]);
  const copy = vi.spyOn(Buffer.prototype, 'copy');
  for (const [size, kind] of [
    [1, 'malformed'],
    [16, 'malformed'],
    [2 ** 12, 'named'],
    [2 ** 14, 'named'],
  ] as const) {
    const bytes = inRecords(long, size);
    copy.mockClear();
    const { hello, count } = readByBytes(bytes);
    const copied = copy.mock.results.reduce((sum, { value }) => sum + (value as number), 0);
    expect([size, hello.kind]).toEqual([size, kind]);
    expect(copied).toBeLessThanOrEqual(4 * count);
  }
  copy.mockRestore();
  // Tiny records are not taken for what a client says, long before they could be a whole one.
  expect(readByBytes(inRecords(long, 1)).count).toBeLessThan(500);
  expect(readByBytes(inRecords(body, 100)).hello.kind).toBe('named');
});

test('a client that names nobody, and one that does not speak TLS, are nameless', async () => {
  expect(readClientHello(await helloOf(undefined))).toEqual({ kind: 'nameless' });
  expect(readClientHello(Buffer.from('SSH-2.0-OpenSSH\r\n'))).toEqual({ kind: 'nameless' });
});

test('whatever is changed in it, it is read or refused, and never taken for longer than it is', async () => {
  const hello = await helloOf('git.example.org');
  fc.assert(
    fc.property(fc.nat(hello.length - 1), fc.nat(255), fc.nat(hello.length), (at, byte, length) => {
      const changed = Buffer.from(hello);
      changed[at] = byte;
      expect(['unfinished', 'nameless', 'named', 'malformed']).toContain(
        readClientHello(changed.subarray(0, length)).kind,
      );
    }),
    { numRuns: 2_000 },
  );
});
