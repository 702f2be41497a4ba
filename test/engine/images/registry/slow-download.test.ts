import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { paced, type Pace } from '../../../../src/engine/images/registry/download-pace.ts';
import { imageContext, recordedOperation } from '../../../support/image-context.ts';
import { putImage, sha256, startRegistry, type Misbehaviour } from '../../../support/registry.ts';

const layer = Buffer.alloc(300_000, 'layer');

/** A clock that moves on by `stepMs` whenever it is looked at. */
function steppedPace(stepMs: number, minBytesPerSecond = 1024): Pace {
  let now = 0;
  return { minBytesPerSecond, windowMs: 60_000, now: () => (now += stepMs) };
}

async function sizes(chunks: readonly number[], pace: Pace): Promise<number> {
  async function* body(): AsyncGenerator<Buffer> {
    for (const chunk of chunks) yield await Promise.resolve(Buffer.alloc(chunk));
  }
  let sum = 0;
  for await (const chunk of paced(body(), 'Blob x', pace)) sum += chunk.length;
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
    for await (const chunk of paced(body(), 'Blob x', steppedPace(10_000))) sum += chunk.length;
  };
  await expect(read()).rejects.toMatchObject({
    code: 'timeout',
    message: 'Blob x comes too slowly: less than 1024 bytes a second for 60 s',
    hint: expect.stringContaining('goes on where it stopped'),
  });
  expect(sum).toBe(6000);
});

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
    tools: { pace: steppedPace(31_000, 50) },
  });
  const image = await pullImage(context, `${registry.host}/app`, recordedOperation());
  expect(image.id).toBe(id);
  expect(context.logged).toEqual(['mirror given up']);
});
