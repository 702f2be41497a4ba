import { createHash, randomBytes } from 'node:crypto';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createSecureServer } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { expect, test } from 'vitest';
import { createTransport, type HttpResponse } from '../../../../src/engine/images/registry/transport.ts';
import { makeCertificates } from '../../../support/certificates.ts';

const content = randomBytes(6_000_000);
const sha256 = createHash('sha256').update(content).digest('hex');

/** The hash of what a server sends to a reader that gives chunks back, and in how many buffers it came. */
async function download(
  server: Server,
  scheme: string,
  read: (response: HttpResponse) => AsyncIterable<Buffer> = (response) =>
    response.body as AsyncIterable<Buffer>,
): Promise<{ sha256: string; buffers: number }> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const transport = createTransport({ env: {}, certificates: () => undefined });
    const hash = createHash('sha256');
    const buffers = new Set<ArrayBufferLike>();
    // Twice, the second time with buffers of the first one.
    for (let round = 0; round < 2; round++) {
      const response = await transport(
        new URL(`${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}/`),
        { headers: {}, signal: new AbortController().signal, isInsecure: true },
      );
      for await (const chunk of read(response)) {
        hash.update(chunk);
        if (chunk.byteOffset === 0) buffers.add(chunk.buffer);
        response.giveBack(chunk);
      }
    }
    return { sha256: hash.digest('hex'), buffers: buffers.size };
  } finally {
    server.close();
  }
}

const twice = createHash('sha256').update(content).update(content).digest('hex');

const whole: RequestListener = (_, response) => {
  response.setHeader('content-length', content.length);
  response.end(content);
};

/** Chunked encoding: bytes between the parts of the body are nobody's. */
const inParts: RequestListener = (_, response) => {
  for (let at = 0; at < content.length; at += 10_000) response.write(content.subarray(at, at + 10_000));
  response.end();
};

test('a body comes in buffers that are used again', async () => {
  const { sha256: found, buffers } = await download(createHttpServer(whole), 'http');
  expect(found).toBe(twice);
  // Of some two hundred reads.
  expect(buffers).toBeLessThan(40);
});

test('chunks of a body share a buffer, and it is used again only after the last of them', async () => {
  expect((await download(createHttpServer(inParts), 'http')).sha256).toBe(twice);
});

test('a reader that is slower than the network gets what was sent', async () => {
  async function* slowly({ body }: HttpResponse): AsyncGenerator<Buffer> {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      await new Promise(setImmediate);
      await new Promise(setImmediate);
      yield chunk;
    }
  }
  expect((await download(createHttpServer(whole), 'http', slowly)).sha256).toBe(twice);
});

test('a reader that keeps chunks has them as they came', async () => {
  await using server = createHttpServer(whole).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const transport = createTransport({ env: {}, certificates: () => undefined });
  const { body } = await transport(url, {
    headers: {},
    signal: new AbortController().signal,
    isInsecure: true,
  });
  const kept: Buffer[] = [];
  for await (const chunk of body as AsyncIterable<Buffer>) kept.push(chunk);
  expect(createHash('sha256').update(Buffer.concat(kept)).digest('hex')).toBe(sha256);
});

test('the same over TLS, with HTTP/1.1 and HTTP/2', async () => {
  using certificates = makeCertificates('IP:127.0.0.1');
  const { cert, key } = certificates.pem;
  expect((await download(createHttpsServer({ cert, key }, whole), 'https')).sha256).toBe(twice);
  const http2 = createSecureServer({ cert, key }, (_, response) => void response.end(content));
  expect((await download(http2, 'https')).sha256).toBe(twice);
});
