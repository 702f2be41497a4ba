import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { abortError, BangerError, errnoOf, whyNotWritten } from '../../../errors.ts';
import type { Operation } from '../../operations.ts';
import { BulkMeter } from '../../optimizer.ts';
import type { ArchiveMember } from './archive-member.ts';

/** Writes files into a directory, where none of them may exist yet. */
export async function writeMembers(
  directory: string,
  members: readonly ArchiveMember[],
  operation: Operation,
): Promise<void> {
  const { signal } = operation;
  const total = members.reduce((sum, member) => sum + member.sizeBytes, 0);
  const meter = new BulkMeter();
  let done = 0;
  try {
    for (const { path, content } of members) {
      const to = join(directory, path);
      await mkdir(dirname(to), { recursive: true });
      const counted = async function* (): AsyncGenerator<Buffer> {
        for await (const chunk of content()) {
          done += chunk.length;
          meter.note(chunk.length);
          operation.progress({ done, total, unit: 'bytes' });
          yield chunk;
        }
      };
      await pipeline(counted, createWriteStream(to, { flags: 'wx', flush: true }), { signal });
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    const errno = errnoOf(error);
    if (
      error instanceof BangerError ||
      !['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'ENOENT'].includes(errno ?? '')
    )
      throw error;
    throw new BangerError('invalid_argument', `"${directory}" cannot be written: ${whyNotWritten(error)}`, {
      hint: 'Choose another place with: -o DIRECTORY',
      cause: error,
    });
  }
}
