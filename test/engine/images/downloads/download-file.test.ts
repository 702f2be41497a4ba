import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setInterval } from 'node:timers';
import { expect, onTestFinished, test } from 'vitest';
import { parseDownload, type DownloadUse } from '../../../../src/engine/images/downloads/download.ts';
import { downloadFile } from '../../../../src/engine/images/downloads/download-file.ts';
import { defaultPace } from '../../../../src/engine/images/registry/download-pace.ts';
import { createTransport } from '../../../../src/engine/images/registry/transport.ts';
import { recordedOperation } from '../../../support/image-context.ts';

const content = Buffer.alloc(300_000, 'kernel ');
const sha256 = createHash('sha256').update(content).digest('hex');

const use: DownloadUse = {
  pull: 'banger kernel pull',
  useFile: 'banger kernel import FILE',
  maxBytes: 1_000_000,
};

/** Fetches from a server that answers as told, and returns what arrived. */
async function fetched(answer: RequestListener, pace = defaultPace): Promise<Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'banger-download-'));
  const server = createServer(answer);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/kernel`;
  const path = join(directory, 'kernel');
  const transport = createTransport({ env: {}, certificates: () => undefined });
  await downloadFile(
    parseDownload(`${url}#sha256=${sha256}`, use),
    { path, transport, retryDelayMs: 1, pace },
    recordedOperation(),
  );
  return readFileSync(path);
}

test('a connection that breaks is taken up where it broke, as often as each brings something', async () => {
  const ranges: (string | undefined)[] = [];
  const bytes = await fetched((request, response) => {
    ranges.push(request.headers.range);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from === 0 ? 200 : 206, {
      'content-length': content.length - from,
      ...(from > 0 && { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    const end = from + 60_000;
    if (end >= content.length) response.end(content.subarray(from));
    else response.write(content.subarray(from, end), () => setImmediate(() => response.destroy()));
  });
  expect(bytes.equals(content)).toBe(true);
  expect(ranges.length).toBeGreaterThan(3);
});

test('a server that hangs up after each byte, or takes for ever to answer, is given up', async () => {
  let now = 0;
  const bytewise = fetched(
    (request, response) => {
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(from === 0 ? 200 : 206, {
        'content-length': content.length - from,
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      });
      response.write(content.subarray(from, from + 1), () => setImmediate(() => response.destroy()));
    },
    { ...defaultPace, now: () => (now += 5_000) },
  );
  await expect(bytewise).rejects.toMatchObject({
    code: 'timeout',
    message: expect.stringMatching(/^The file at "http:.*" comes too slowly/),
    hint: 'Try again, or fetch it another way, then: banger kernel import FILE',
  });
  const silent = fetched(
    (_, response) => {
      const timer = setInterval(() => response.writeProcessing(), 5);
      response.once('close', () => clearInterval(timer));
    },
    { ...defaultPace, answerMs: 100 },
  );
  await expect(silent).rejects.toThrow(/^Server "127.0.0.1:\d+" did not answer within 0.1 s/);
});

test('a server that is busy is asked again, three times in a row', async () => {
  let asked = 0;
  const bytes = await fetched((_, response) => {
    if (++asked < 3) response.writeHead(503).end();
    else response.end(content);
  });
  expect(bytes.equals(content)).toBe(true);
  asked = 0;
  const refused = fetched((_, response) => response.writeHead(503).end(String(++asked)));
  await expect(refused).rejects.toThrow('answered 503 for "/kernel"');
  expect(asked).toBe(3);
});

test('what does not have the hash is refused', async () => {
  await expect(fetched((_, response) => response.end('another kernel'))).rejects.toThrow('has the SHA-256');
});

test('a file that does not end is given up', async () => {
  await expect(fetched((_, response) => response.end(Buffer.alloc(1_000_001)))).rejects.toThrow(
    'has more than 1000000 bytes',
  );
});

test('redirects end, and an answer that is no file is told', async () => {
  await expect(fetched((_, response) => response.writeHead(302, { location: '/on' }).end())).rejects.toThrow(
    'redirects more than 5 times',
  );
  await expect(fetched((_, response) => response.writeHead(404).end())).rejects.toThrow(
    'answered 404 for "/kernel"',
  );
  await expect(
    fetched((_, response) => response.writeHead(302, { location: 'http://169.254.169.254/latest' }).end()),
  ).rejects.toThrow('on the local link');
});

test.each([
  ['ftp://a.example/k', 'not an http or https address'],
  ['https://user:secret@a.example/k', 'has a password in it'],
  ['https://a.example/k', 'No hash is given for "https://a.example/k"'],
  ['https://a.example/k?token=secret', 'No hash is given for "https://a.example/k?…"'],
  ['https://a.example/k#sha256=abc', '"abc" is not a SHA-256'],
])('the address %s is refused', (text, why) => {
  expect(() => parseDownload(text, use)).toThrow(why);
  expect(() => parseDownload(text, use)).not.toThrow('secret');
});
