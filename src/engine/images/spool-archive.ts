import { createReadStream } from 'node:fs';
import { open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { abortError, BangerError, errnoOf } from '../../errors.ts';
import type { Operation } from '../operations.ts';
import { Turns } from './ext4/turns.ts';
import { ConversionBudget, defaultLimits } from './layers/conversion-limits.ts';
import { LayerRefusal } from './layers/layer-refusal.ts';
import { uncompressedInPlace } from './layers/layer-stream.ts';

/**
 * Writes an archive down without its compression, to a path that must not exist. What unpacks to more than an image may
 * have is refused, and so is what would leave no room for the image that is made of it.
 */
export async function spoolArchive(
  from: string,
  to: string,
  {
    operation,
    limits = defaultLimits,
  }: { readonly operation: Operation; readonly limits?: typeof defaultLimits },
): Promise<void> {
  const { signal } = operation;
  const budget = new ConversionBudget(limits);
  const { bavail, bsize } = await statfs(dirname(to));
  const roomBytes = (bavail * bsize) / 2;
  let compressedBytes = 0;
  async function* packed(): AsyncGenerator<Buffer> {
    for await (const chunk of createReadStream(from) as AsyncIterable<Buffer>) {
      compressedBytes += chunk.length;
      yield chunk;
    }
  }
  const turns = new Turns();
  const file = await open(to, 'wx', 0o600);
  try {
    for await (const chunk of uncompressedInPlace(packed())) {
      if (signal.aborted) throw abortError(signal);
      const done = budget.streamBytes;
      budget.addStreamBytes(chunk.length);
      budget.checkExpansion(budget.streamBytes, compressedBytes);
      if (budget.streamBytes > roomBytes) throw noRoom(from, dirname(to));
      for (let put = 0; put < chunk.length;)
        put += (await file.write(chunk, put, chunk.length - put, done + put)).bytesWritten;
      operation.progress({ done: budget.streamBytes, unit: 'bytes' });
      await turns.share();
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    if (error instanceof BangerError || errnoOf(error) !== undefined) throw error;
    const why = error instanceof LayerRefusal ? error.message : 'cannot be decompressed';
    throw new BangerError('invalid_argument', `"${from}" ${why}`, {
      hint: `Check it with: gzip -t ${from}, zstd -t ${from}, or xz -t ${from}`,
      cause: error,
    });
  } finally {
    await file.close();
  }
}

function noRoom(from: string, directory: string): BangerError {
  return new BangerError(
    'host_unsupported',
    `"${from}" unpacks to more than half of the space that is free at "${directory}", which leaves too little for its image`,
    { hint: 'Free space there, for example with: banger image prune --all' },
  );
}
