import fc from 'fast-check';
import { connect } from 'node:tls';
import { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { readClientHello } from '../../../src/engine/egress/client-hello.ts';

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
