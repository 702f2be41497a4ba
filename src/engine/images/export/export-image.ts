import { abortError } from '../../../errors.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import { BulkMeter } from '../../optimizer.ts';
import type { EngineStream } from '../../rpc/frame-stream.ts';
import type { exportSummary, imageExport, imageExportLayout } from '../../rpc/image-methods.ts';
import type { ParsedParams } from '../../rpc/method.ts';
import type * as z from 'zod/mini';
import { namePulled } from '../find-image.ts';
import { holdPresentImage } from '../hold-image.ts';
import { digestOf } from '../registry/resolve-image.ts';
import { archive, type ArchiveMember } from './archive-member.ts';
import { flattenedImage } from './flattened-image.ts';
import { exportedName, layoutMembers } from './oci-layout.ts';
import { originalImage } from './original-image.ts';
import { writeMembers } from './write-members.ts';

/**
 * Sends an image as a tar: with its own layers when all of them are cached, else with one layer that is read from
 * its filesystem.
 */
export async function exportImage(
  context: ImageContext,
  { reference, format }: ParsedParams<typeof imageExport>,
  { operation, stream }: { readonly operation: Operation; readonly stream: EngineStream },
): Promise<ExportSummary> {
  return withMembers(context, { reference, format }, operation, async (members) => {
    const total = members.reduce((sum, member) => sum + member.sizeBytes, 0);
    await sendAll(archive(members), { operation, stream, total });
  });
}

/** Writes an image as an OCI layout into an empty directory. */
export async function exportLayout(
  context: ImageContext,
  { reference, directory }: ParsedParams<typeof imageExportLayout>,
  operation: Operation,
): Promise<ExportSummary> {
  return withMembers(context, { reference, format: 'oci' }, operation, (members) =>
    writeMembers(directory, members, operation),
  );
}

type ExportSummary = z.output<typeof exportSummary>;

/** Hands over the files that make up an image, which stays while they are read. */
async function withMembers(
  context: ImageContext,
  { reference, format }: ParsedParams<typeof imageExport>,
  operation: Operation,
  send: (members: readonly ArchiveMember[]) => Promise<void>,
): Promise<ExportSummary> {
  using held = await holdPresentImage(context, reference, operation);
  const { image } = held;
  const name = namePulled(image, reference, context.config().catalog);
  const exported =
    (await originalImage(context.layout, image, { isOci: format === 'oci', name })) ??
    (await flattenedImage(context, image, operation));

  operation.enter('Exporting image');
  await send(
    layoutMembers(exported, {
      name: exportedName(image, name),
      isDocker: format === 'docker',
    }),
  );
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
  const meter = new BulkMeter();
  let done = 0;
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  const flush = async (): Promise<void> => {
    if (operation.signal.aborted) throw abortError(operation.signal);
    done += waitingBytes;
    meter.note(waitingBytes);
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
