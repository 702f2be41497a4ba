import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { BangerError, whyNotWritten } from '../errors.ts';
import type { Cli } from './cli.ts';
import type { TransferEnds } from './transfer.ts';
import { partialPath, unfinished } from './unfinished.ts';
import { UsageError } from './usage-error.ts';

export type Output = Required<Pick<TransferEnds, 'output'>>;

/**
 * Writes what `produce` makes to a file, or to standard output without one. The file appears when it is complete:
 * until then there is one with another name beside it, which goes when something fails.
 */
export async function saveOutput<T>(
  cli: Cli,
  path: string | undefined,
  produce: (output: Output) => Promise<T>,
): Promise<T> {
  if (path === undefined) {
    if (cli.printsToTerminal)
      throw new UsageError(
        'A terminal cannot show an archive',
        'Name a file with: -o FILE; or redirect it: > FILE',
      );
    return produce({ output: (chunk) => cli.write(chunk) });
  }
  // A device or pipe takes it as it comes.
  const special = await stat(path).then(
    (found) => !found.isFile(),
    () => false,
  );
  using partial = special ? undefined : unfinished(partialPath(path));
  const written = partial?.path ?? path;
  const file = await openForWriting(written, special ? 'w' : 'wx', path);
  try {
    const result = await produce({
      output: async (chunk) => void (await writeAll(file, chunk, path)),
    });
    if (special) return result;
    await file.sync();
    await rename(written, path);
    return result;
  } catch (error) {
    if (!special) await rm(written, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, chunk: Buffer, path: string): Promise<void> {
  try {
    await file.writeFile(chunk);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

async function openForWriting(written: string, flags: string, path: string): Promise<FileHandle> {
  try {
    return await open(written, flags);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

function cannotWrite(path: string, cause: unknown): unknown {
  const why = whyNotWritten(cause);
  if (why === undefined) return cause;
  return new BangerError('invalid_argument', `"${path}" cannot be written: ${why}`, {
    hint: 'Choose another place with: -o FILE',
    cause,
  });
}
