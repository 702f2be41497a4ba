import { statfsSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { findImage } from '../../../src/engine/images/find-image.ts';
import { importStream } from '../../../src/engine/images/import-stream.ts';
import type { EngineStream } from '../../../src/engine/rpc/frame-stream.ts';
import { resolveLayout } from '../../../src/state/layout.ts';
import { imageContext, recordedOperation } from '../../support/image-context.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { file, tarOf } from '../../support/tar-builder.ts';

/** A client that sends these chunks as the engine asks for them, and then that it has no more. */
function streamOf(chunks: Iterable<Buffer>): EngineStream {
  return {
    send: () => Promise.resolve(),
    onFrame: (handle) =>
      void (async () => {
        for (const payload of chunks) await handle({ type: 'stdin', payload });
        await handle({ type: 'stdin-end', payload: Buffer.alloc(0) });
      })(),
  };
}

test.each([
  ['nothing', [], 'Standard input was empty'],
  ['what unpacks to nothing', [gzipSync(Buffer.alloc(0))], 'standard input unpacks to nothing'],
])('%s makes no image, and the name stays where it is', async (_, chunks, message) => {
  using context = imageContext();
  const load = (sent: readonly Buffer[]): ReturnType<typeof importStream> =>
    importStream(context, { name: 'good' }, { operation: recordedOperation(), stream: streamOf(sent) });
  const good = await load([tarOf([file('etc/hostname', 'a')])]);
  await expect(load(chunks)).rejects.toMatchObject({
    code: 'invalid_argument',
    message,
    hint: expect.stringContaining('What wrote it may have failed') as string,
  });
  expect(findImage(context.db, 'good')?.id).toBe(good.id);
  // A tar without files is what was meant.
  const empty = await load([Buffer.alloc(10_240)]);
  expect(findImage(context.db, 'good')?.id).toBe(empty.id);
  expect(empty.id).not.toBe(good.id);
});

test('what comes on standard input leaves room on the disk for VMs', async (context) => {
  await withSmallDisk(context, '64m', async (disk) => {
    using images = imageContext();
    const layout = resolveLayout({
      env: { BANGER_HOME: disk.path },
      home: disk.path,
      uid: 0,
      temporaryDirectory: disk.path,
    });
    let leastFree = Infinity;
    function* endless(): Generator<Buffer> {
      for (let sent = 0; sent < 2 * 64; sent++) {
        const { bavail, bsize } = statfsSync(disk.path);
        leastFree = Math.min(leastFree, bavail * bsize);
        yield Buffer.alloc(2 ** 20, 'x');
      }
    }
    await expect(
      importStream(
        { ...images, layout },
        { name: 'much' },
        { operation: recordedOperation(), stream: streamOf(endless()) },
      ),
    ).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringMatching(
        /^There is no room for the image: .*MiB of which are kept for VMs$/,
      ) as string,
    });
    expect(leastFree).toBeGreaterThan(7 * 2 ** 20);
  });
});
