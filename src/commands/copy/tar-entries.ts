import { BangerError } from '../../errors.ts';
import { parseEntryPath } from '../../engine/images/layers/entry-path.ts';
import { LayerRefusal, shownName } from '../../engine/images/layers/layer-refusal.ts';
import type { TarEntry } from '../../engine/images/layers/tar-entry.ts';
import { TarReader } from '../../engine/images/layers/tar-reader.ts';

export interface SentEntry extends TarEntry {
  /** Its path in names, as byte strings; none for the root of what was sent */
  readonly names: readonly string[];
  /** Of a hard link: the path of the file, from the root of what was sent */
  readonly targetNames: readonly string[];
  /** Passes its content on, each piece with its offset */
  body(visit: (offset: number, data: Buffer) => Promise<void>): Promise<void>;
}

/** Who sends a tar, and what is made of paths in it that begin with a slash. */
export interface Sender {
  readonly name: string;
  readonly absolutePaths: 'refused' | 'below the root';
}

/** What may follow the end of a tar: some writers fill up to a round size. */
const maxRestBytes = 1024 * 1024;

/**
 * The entries of a tar that somebody sends. Paths that lead upwards, damage, and a stream that goes on after its end
 * are errors.
 */
export async function* tarEntries(
  source: AsyncIterable<Buffer>,
  { name, absolutePaths }: Sender,
): AsyncGenerator<SentEntry> {
  const end = { isReached: false };
  const reader = new TarReader(bounded(source, end));
  const namesOf = (path: string): readonly string[] => {
    if (path.startsWith('/') && absolutePaths === 'refused') throw new LayerRefusal('has an absolute path');
    return parseEntryPath(path);
  };
  const explained = (error: unknown): unknown => {
    if (!(error instanceof LayerRefusal)) return error;
    const { at } = reader.place;
    const where = at === undefined ? 'the tar' : `"${shownName(at)}"`;
    return new BangerError('command_failed', `What ${name} sent cannot be used: ${where} ${error.message}`, {
      cause: error,
    });
  };
  try {
    for (let entry = await reader.next(); entry; entry = await reader.next()) {
      yield {
        ...entry,
        names: namesOf(entry.path),
        targetNames: entry.type === 'hardlink' ? namesOf(entry.linkPath) : [],
        body: (visit) =>
          reader.body(visit).catch((error: unknown) => {
            throw explained(error);
          }),
      };
    }
    end.isReached = true;
    await reader.drain();
  } catch (error) {
    throw explained(error);
  } finally {
    await reader.close();
  }
}

async function* bounded(
  source: AsyncIterable<Buffer>,
  end: { readonly isReached: boolean },
): AsyncGenerator<Buffer> {
  let rest = 0;
  for await (const chunk of source) {
    if (end.isReached) rest += chunk.length;
    if (rest > maxRestBytes) throw new LayerRefusal('goes on after its end');
    yield chunk;
  }
}
