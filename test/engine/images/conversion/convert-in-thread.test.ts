import { createHash } from 'node:crypto';
import { createReadStream, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { BangerError } from '../../../../src/errors.ts';
import { convertInThread } from '../../../../src/engine/images/conversion/convert-in-thread.ts';
import type {
  ConvertOptions,
  ConvertResult,
  LayerFile,
  LayerSource,
} from '../../../../src/engine/images/layers/layers.ts';
import { threadScript, type ThreadScript } from '../../../../src/host/assets.ts';
import { directory, file, symlink, tarOf } from '../../../support/tar-builder.ts';
import { convert, expectClean, layerOf, tempDirectory } from '../layers/image-inspector.ts';

const layers = [
  tarOf([directory('d'), file('d/a', 'x'.repeat(3_000_000)), symlink('l', 'd')]),
  gzipSync(tarOf([file('d/.wh.a', ''), file('d/b', Buffer.alloc(2_000_000, 'y'))])),
];

function run(
  where: string,
  sources: readonly LayerSource[],
  more: Partial<ConvertOptions> = {},
  script: ThreadScript = threadScript('conversion'),
): Promise<ConvertResult> {
  return convertInThread(
    {
      layers: sources,
      destination: path.join(where, 'rootfs.ext4'),
      workDirectory: path.join(where, 'work'),
      sizeBytes: 256 * 1024 * 1024,
      seed: 'sha256:test',
      signal: new AbortController().signal,
      ...more,
    },
    script,
  );
}

const hashOf = (image: string): string => createHash('sha256').update(readFileSync(image)).digest('hex');

test('a thread writes the same bytes as a direct call, and tells the same', async () => {
  using direct = tempDirectory();
  using threaded = tempDirectory();
  const { image, ...expected } = await convert(direct.path, layers);
  const progress: number[] = [];
  const result = await run(
    threaded.path,
    layers.map((data) => layerOf(data)),
    { onProgress: ({ bytes }) => void progress.push(bytes) },
  );
  expect(result).toEqual(expected);
  expect(progress.length).toBeGreaterThan(0);
  const converted = path.join(threaded.path, 'rootfs.ext4');
  expectClean(converted);
  expect(hashOf(converted)).toBe(hashOf(image));
});

test('the thread gives way to the one that started it', async () => {
  using temp = tempDirectory();
  const niceOf = (stat: string): number => Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  const own = niceOf(readFileSync('/proc/thread-self/stat', 'utf8'));
  const others = new Set<number>();
  const source = layerOf(layers[0]!);
  const open = (): AsyncIterable<Buffer> => {
    for (const task of readdirSync('/proc/self/task'))
      others.add(niceOf(readFileSync(`/proc/self/task/${task}/stat`, 'utf8')));
    return source.open();
  };
  await run(temp.path, [{ ...source, open }]);
  expect(others).toContain(Math.min(own + 5, 19));
  expect(niceOf(readFileSync('/proc/thread-self/stat', 'utf8'))).toBe(own);
});

test('large chunks of a file are handed over', async () => {
  using temp = tempDirectory();
  const data = path.join(temp.path, 'layer');
  writeFileSync(data, layers[0]!);
  const open = (): AsyncIterable<Buffer> => createReadStream(data, { highWaterMark: 1 << 20 });
  const { diffIds } = await run(temp.path, [{ open, label: 'file' }]);
  expect(diffIds).toEqual([`sha256:${hashOf(data)}`]);
});

test('a refusal arrives as it was made', async () => {
  using temp = tempDirectory();
  const refused = run(temp.path, [layerOf(tarOf([file('a'), file('../x')]), { label: 'layer 1234' })]);
  await expect(refused).rejects.toThrow(
    new BangerError('invalid_argument', 'Entry "../x" of layer "layer 1234" has ".." in its path'),
  );
  expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
});

test('an error of the host arrives with its name', async () => {
  using temp = tempDirectory();
  writeFileSync(path.join(temp.path, 'work'), 'not a directory');
  await expect(run(temp.path, [])).rejects.toMatchObject({ code: 'EEXIST' });
});

test('what is wrong with a source is thrown as it is', async () => {
  using temp = tempDirectory();
  const failure = new BangerError('timeout', 'The registry is asleep', { hint: 'Wake it' });
  async function* open(): AsyncGenerator<Buffer> {
    yield layers[0]!.subarray(0, 5000);
    await Promise.resolve();
    throw failure;
  }
  const error: unknown = await run(temp.path, [{ open, label: 'x' }]).catch((reason: unknown) => reason);
  expect(error).toBe(failure);
  expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
});

test('cancelling ends a conversion that waits for its source', async () => {
  using temp = tempDirectory();
  const abort = new AbortController();
  const reason = new BangerError('cancelled', 'Nobody wants it any more');
  async function* open(): AsyncGenerator<Buffer> {
    yield layers[0]!.subarray(0, 5000);
    setImmediate(() => abort.abort(reason));
    await new Promise((resolve) => abort.signal.addEventListener('abort', resolve));
  }
  await expect(run(temp.path, [{ open, label: 'x' }], { signal: abort.signal })).rejects.toBe(reason);
  expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
  await expect(run(temp.path, [], { signal: abort.signal })).rejects.toBe(reason);
});

test.each([
  ['ends', 'process.exit(3)', 'The thread that converts the image ended'],
  ['throws', 'throw new Error("boom")', 'The thread that converts the image failed'],
  [
    'runs out of memory',
    'const all = []; for (;;) all.push(Array.from({ length: 1000 }, (_, index) => ({ index })))',
    'The image has more files than there is memory to convert it',
  ],
])('a thread that %s is an error, and leaves nothing', async (_, source, message) => {
  using temp = tempDirectory();
  const partial =
    "require('node:fs').mkdirSync(workDirectory, { recursive: true }); require('node:fs').writeFileSync(workDirectory + '/rootfs.ext4.partial', 'x');";
  const text = `const { workDirectory } = require('node:worker_threads').workerData; ${partial} ${source}`;
  await expect(run(temp.path, [], {}, { source: text, isText: true })).rejects.toThrow(message);
  expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
});

/** A file that grows by so many bytes each time somebody wants more of it. */
function growingFile(
  file: FileHandle,
  data: Buffer,
  step: number,
): LayerFile & { readonly isClosed: () => boolean } {
  let end = 0;
  let isClosed = false;
  return {
    fd: file.fd,
    reach: async () => {
      const part = data.subarray(end, end + step);
      if (part.length > 0) await file.write(part, 0, part.length, end);
      return (end += part.length);
    },
    close: async () => {
      isClosed = true;
      await file.close();
    },
    isClosed: () => isClosed,
  };
}

test('a layer in a file is read while it grows, and the file is closed when that is over', async () => {
  using temp = tempDirectory();
  const data = layers[0]!;
  const file = growingFile(await open(path.join(temp.path, 'layer'), 'wx+'), data, 700_000);
  const source = layerOf(layers[1]!);
  const neverAsked = (): AsyncIterable<Buffer> => {
    throw new Error('it was to be read by the thread');
  };
  const { diffIds } = await run(temp.path, [
    { open: neverAsked, openFile: () => Promise.resolve(file), label: 'file' },
    source,
  ]);
  expect(diffIds[0]).toBe(`sha256:${createHash('sha256').update(data).digest('hex')}`);
  expect(diffIds).toHaveLength(2);
  expect(file.isClosed()).toBe(true);
});

test('a file whose rest does not come, or that cannot be opened, is told as it was', async () => {
  using temp = tempDirectory();
  const failure = new BangerError('timeout', 'The registry is asleep', { hint: 'Wake it' });
  const growing = growingFile(await open(path.join(temp.path, 'layer'), 'wx+'), layers[0]!, 5000);
  let asked = 0;
  const file = { ...growing, reach: () => (asked++ === 0 ? growing.reach(0) : Promise.reject(failure)) };
  const source = layerOf(layers[0]!);
  await expect(run(temp.path, [{ ...source, openFile: () => Promise.resolve(file) }])).rejects.toBe(failure);
  expect(growing.isClosed()).toBe(true);
  await expect(run(temp.path, [{ ...source, openFile: () => Promise.reject(failure) }])).rejects.toBe(
    failure,
  );
});
