import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { expect, test, vi } from 'vitest';
import { ConversionTurns } from '../../../../src/engine/images/conversion/conversion-turns.ts';
import type { ConvertLayers } from '../../../../src/engine/images/image-services.ts';
import { importImage } from '../../../../src/engine/images/import-image.ts';
import { pullImage } from '../../../../src/engine/images/pull-image.ts';
import { concatenate, imageContext, recordedOperation } from '../../../support/image-context.ts';
import { putImage, startRegistry } from '../../../support/registry.ts';
import { file, tarOf } from '../../../support/tar-builder.ts';

const { signal } = new AbortController();
const noWait = (): void => undefined;

/** A converter that says how many images it has at work, and converts each when it may. */
function heldConverter(): {
  readonly convert: ConvertLayers;
  running: number;
  most: number;
  release(): void;
} {
  const gate = Promise.withResolvers<void>();
  const state = {
    running: 0,
    most: 0,
    release: gate.resolve,
    convert: (async (options) => {
      state.most = Math.max(state.most, ++state.running);
      await gate.promise;
      const converted = await concatenate(options);
      state.running--;
      return converted;
    }) as ConvertLayers,
  };
  return state;
}

test('two images are converted at a time, and those that wait say so', async () => {
  const converter = heldConverter();
  using context = imageContext({ tools: { convert: converter.convert } });
  const operations = Array.from({ length: 5 }, () => recordedOperation());
  const imports = operations.map((operation, index) => {
    const path = join(context.directory, `${index}.tar`);
    writeFileSync(path, tarOf([file('etc/hostname', String(index))]));
    return importImage(context, { path, name: `app${index}` }, operation);
  });
  const waiting = (): number =>
    operations.filter(({ stages }) => stages.at(-1) === 'Waiting for other conversions').length;
  await vi.waitFor(() => expect(waiting()).toBe(3));
  expect(converter.running).toBe(2);
  converter.release();
  expect(new Set((await Promise.all(imports)).map(({ id }) => id)).size).toBe(5);
  expect(converter.most).toBe(2);
  for (const { stages } of operations)
    expect(stages.slice(-2)).toEqual(['Converting layers', 'Publishing image']);
});

test('images are downloaded while others are converted', async () => {
  const converter = heldConverter();
  await using registry = await startRegistry();
  using context = imageContext({ tools: { convert: converter.convert } });
  const operations = Array.from({ length: 4 }, () => recordedOperation());
  const pulls = operations.map((operation, index) => {
    putImage(registry, `app${index}`, { layers: [`layer ${index}`] });
    return pullImage(context, `${registry.host}/app${index}`, operation);
  });
  const blobs = (): number => registry.requests.filter(({ path }) => path.includes('/blobs/')).length;
  // A config and a layer each.
  await vi.waitFor(() => expect(blobs()).toBe(8));
  await vi.waitFor(() =>
    expect(operations.filter(({ stages }) => stages.at(-1) === 'Waiting for other conversions')).toHaveLength(
      2,
    ),
  );
  expect(converter.running).toBe(2);
  converter.release();
  await Promise.all(pulls);
  expect(converter.most).toBe(2);
});

test('images that are still on their way leave a turn for those that are here', async () => {
  const turns = new ConversionTurns();
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  const slow = await turns.take({ signal, arrived: first.promise, onWait: noWait });
  let hasBegun = false;
  const waited = turns.take({ signal, arrived: second.promise, onWait: noWait }).then((turn) => {
    hasBegun = true;
    return turn;
  });
  (await turns.take({ signal, onWait: noWait }))[Symbol.dispose]();
  await new Promise(setImmediate);
  expect(hasBegun).toBe(false);
  second.reject(new Error('a layer that does not come is found out by whoever converts it'));
  (await waited)[Symbol.dispose]();
  slow[Symbol.dispose]();
});

test('who gives up waiting leaves the turn to the next', async () => {
  const turns = new ConversionTurns();
  const running = [
    await turns.take({ signal, onWait: noWait }),
    await turns.take({ signal, onWait: noWait }),
  ];
  const abort = new AbortController();
  const given = turns.take({ signal: abort.signal, onWait: () => abort.abort() });
  await expect(given).rejects.toMatchObject({ code: 'cancelled' });
  let waits = 0;
  const next = turns.take({ signal, onWait: () => waits++ });
  running[0]![Symbol.dispose]();
  (await next)[Symbol.dispose]();
  expect(waits).toBe(1);
});
