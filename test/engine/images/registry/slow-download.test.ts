import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { setInterval } from 'node:timers';
import { expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import {
  defaultPace,
  DownloadPace,
  type Pace,
} from '../../../../src/engine/images/registry/download-pace.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { answer, putImage, sha256, startRegistry, type Misbehaviour } from '../../../support/registry.ts';

const blob = { what: 'Blob x', hint: 'Try again' };
const layer = Buffer.alloc(300_000, 'layer');

/** A clock that moves on by `stepMs` whenever it is looked at. */
function steppedPace(stepMs: number, minBytesPerSecond = 1024): Pace {
  let now = 0;
  return { minBytesPerSecond, windowMs: 60_000, answerMs: 60_000, now: () => (now += stepMs) };
}

async function sizes(chunks: readonly number[], pace: Pace): Promise<number> {
  async function* body(): AsyncGenerator<Buffer> {
    for (const chunk of chunks) yield await Promise.resolve(Buffer.alloc(chunk));
  }
  let sum = 0;
  for await (const chunk of new DownloadPace(blob, pace).passed(body())) sum += chunk.length;
  return sum;
}

test('what comes at the least pace or faster passes, whatever its bursts', async () => {
  expect(await sizes([1024 * 30, 1024 * 30, 1024 * 30, 1024 * 30], steppedPace(30_000))).toBe(120 * 1024);
  expect(await sizes([1, 1024 * 60, 1, 1024 * 60], steppedPace(30_000))).toBe(120 * 1024 + 2);
  expect(await sizes([1024 * 100, 1], steppedPace(90_000))).toBe(100 * 1024 + 1);
});

test('what comes slower ends, with what came until then passed on', async () => {
  let sum = 0;
  async function* body(): AsyncGenerator<Buffer> {
    for (;;) yield await Promise.resolve(Buffer.alloc(1000));
  }
  const read = async (): Promise<void> => {
    for await (const chunk of new DownloadPace(blob, steppedPace(10_000)).passed(body())) sum += chunk.length;
  };
  await expect(read()).rejects.toMatchObject({
    code: 'timeout',
    message: 'Blob x comes too slowly: less than 1024 bytes a second for 60 s',
  });
  expect(sum).toBe(6000);
});

/** Sends one byte of what was asked for, and hangs up. */
const byteByByte: Misbehaviour = ({ path, headers }, response) => {
  if (!path.endsWith(sha256(layer))) return false;
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from === 0 ? 200 : 206, {
    'content-length': layer.length - from,
    'content-range': `bytes ${from}-${layer.length - 1}/${layer.length}`,
  });
  response.write(layer.subarray(from, from + 1), () => setImmediate(() => response.destroy()));
  return true;
};

/** Begins to answer, and never ends. */
function endless(response: ServerResponse): true {
  const timer = setInterval(() => response.write(' '), 5);
  response.once('close', () => clearInterval(timer));
  return true;
}

/** Sends what was asked for by the byte, until the other side has had enough. */
function trickle(): Misbehaviour {
  return async ({ path, headers }, response) => {
    if (!path.endsWith(sha256(layer)) || headers.range !== undefined) return false;
    response.writeHead(200, { 'content-length': layer.length });
    const closed = once(response, 'close');
    for (let at = 0; at < 10_000 && !response.destroyed; at++) {
      response.write(layer.subarray(at, at + 1));
      await new Promise(setImmediate);
    }
    await closed;
    return true;
  };
}

test('a registry that trickles is an error, and the next pull goes on where it stopped', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { pace: steppedPace(31_000) } });
  const { id } = putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(trickle());
  const pull = () => pullImage(context, `${registry.host}/app`, recordedOperation());
  await expect(pull()).rejects.toMatchObject({
    code: 'timeout',
    message: expect.stringContaining(`Blob ${sha256(layer)} comes too slowly`),
  });
  expect(readdirSync(context.layout.blobsDirectory)).toEqual([`${sha256(layer).slice(7)}.partial`]);
  expect(readdirSync(context.layout.imageStagingDirectory)).toEqual([]);
  registry.requests.length = 0;
  expect((await pull()).id).toBe(id);
  const asked = registry.requests.filter(({ path }) => path.endsWith(sha256(layer)));
  expect(asked.map(({ headers }) => headers.range)).toEqual([expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
});

test('a registry that hangs up after each byte is as slow as one that trickles', async () => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { pace: steppedPace(5_000) } });
  putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(byteByByte);
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toMatchObject({
    code: 'timeout',
    message: expect.stringContaining('comes too slowly'),
    hint: expect.stringContaining('goes on where it stopped'),
  });
});

test('a mirror that hangs up after each byte is given up for the registry', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  const { id } = putImage(registry, 'app', { layers: [layer] });
  putImage(mirror, 'app', { layers: [layer] });
  mirror.misbehave(byteByByte);
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`,
    tools: { pace: steppedPace(5_000) },
  });
  expect((await pullImage(context, `${registry.host}/app`, recordedOperation())).id).toBe(id);
  expect(context.logged).toEqual(['mirror given up']);
});

test('bodies that nobody needs may trickle for ever', async () => {
  await using registry = await startRegistry();
  using context = imageContext();
  const { id } = putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(({ path, headers }, response) => {
    if (path === '/v2/') return endless(response.writeHead(200));
    if (!path.endsWith(sha256(layer)) || path.includes('/moved/')) return false;
    if (headers.authorization === undefined)
      return endless(response.writeHead(401, { 'www-authenticate': 'Bearer realm="/token"' }));
    return endless(response.writeHead(302, { location: `/v2/moved/blobs/${sha256(layer)}` }));
  });
  registry.misbehave(answer(/^\/token/, 200, {}, '{"token":"t"}'));
  expect((await pullImage(context, `${registry.host}/app`, recordedOperation())).id).toBe(id);
});

test.each([
  ['a token service that trickles', /^\/token/],
  ['a registry that never ends the head of its answer', /\/blobs\//],
])('%s is given up', async (_, slow) => {
  await using registry = await startRegistry();
  using context = imageContext({ tools: { pace: { ...defaultPace, answerMs: 300 } } });
  putImage(registry, 'app', { layers: [layer] });
  registry.misbehave(({ path, headers }, response) => {
    if (slow.test(path)) {
      if (path.startsWith('/token')) return endless(response.writeHead(200));
      const timer = setInterval(() => response.writeProcessing(), 5);
      response.once('close', () => clearInterval(timer));
      return true;
    }
    if (path.endsWith(sha256(layer)) && headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Bearer realm="/token"' }).end();
      return true;
    }
    return false;
  });
  await expect(pullImage(context, `${registry.host}/app`, recordedOperation())).rejects.toMatchObject({
    code: 'timeout',
    message: `Registry "${registry.host}" did not answer within 0.3 s`,
  });
});

test('a mirror that trickles is given up for the registry, by all layers at once', async () => {
  await using registry = await startRegistry();
  await using mirror = await startRegistry();
  const layers = [layer, Buffer.alloc(250_000, 'second'), Buffer.alloc(200_000, 'third')];
  const { id } = putImage(registry, 'app', { layers });
  putImage(mirror, 'app', { layers });
  mirror.misbehave(async ({ path }, response) => {
    if (!path.includes('/blobs/') || !layers.some((bytes) => path.endsWith(sha256(bytes)))) return false;
    response.writeHead(200);
    const closed = once(response, 'close');
    while (!response.destroyed) {
      response.write('x');
      await new Promise(setImmediate);
    }
    await closed;
    return true;
  });
  using context = imageContext({
    config: `[registries."${registry.host}"]\nmirrors = ["http://${mirror.host}"]`,
    // Three downloads look at this clock, so that it goes faster for each.
    tools: { pace: steppedPace(31_000, 5) },
  });
  const image = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(image.id).toBe(id);
  expect(context.logged).toEqual(['mirror given up']);
});
