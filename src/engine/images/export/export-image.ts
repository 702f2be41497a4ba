import { abortError } from '../../../errors.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import type { EngineStream } from '../../rpc/frame-stream.ts';
import type { imageExport, exportSummary } from '../../rpc/image-methods.ts';
import type { ParsedParams } from '../../rpc/method.ts';
import type * as z from 'zod/mini';
import { nameMeant } from '../find-image.ts';
import { holdPresentImage } from '../hold-image.ts';
import { digestOf } from '../registry/resolve-image.ts';
import { archive } from './archive-member.ts';
import { flattenedImage } from './flattened-image.ts';
import { exportedName, layoutMembers } from './oci-layout.ts';
import { originalImage } from './original-image.ts';

/**
 * Sends an image as a tar: with its own layers when all of them are cached, else with one layer that is read from
 * its filesystem.
 */
export async function exportImage(
  context: ImageContext,
  { reference, format }: ParsedParams<typeof imageExport>,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<z.output<typeof exportSummary>> {
  using held = await holdPresentImage(context, reference, operation);
  const { image } = held;
  const exported =
    (await originalImage(context.layout, image, { isOci: format === 'oci' })) ??
    (await flattenedImage(context, image, operation));

  operation.enter('Exporting image');
  const members = layoutMembers(exported, {
    name: exportedName(image, nameMeant(image, reference, context.config().catalog)),
    isDocker: format === 'docker',
  });
  const total = members.reduce((sum, member) => sum + member.sizeBytes, 0);
  await sendAll(archive(members), { operation, stream, total });
  return {
    digest: digestOf(exported.manifest),
    original: exported.original,
    layers: exported.layers.length,
  };
}

/** Sends chunks as stdout frames, as fast as the client takes them. Small ones travel together. */
export async function sendAll(
  chunks: AsyncIterable<Buffer>,
  to: { readonly operation: Operation; readonly stream: EngineStream; readonly total?: number },
): Promise<void> {
  const { operation, stream, total } = to;
  let done = 0;
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  const flush = async (): Promise<void> => {
    if (operation.signal.aborted) throw abortError(operation.signal);
    done += waitingBytes;
    await stream.send('stdout', Buffer.concat(waiting));
    operation.progress({ done, total, unit: 'bytes' });
    waiting = [];
    waitingBytes = 0;
  };
  for await (const chunk of chunks) {
    waiting.push(chunk);
    waitingBytes += chunk.length;
    if (waitingBytes >= frameBytes) await flush();
  }
  await flush();
}

const frameBytes = 256 * 1024;
