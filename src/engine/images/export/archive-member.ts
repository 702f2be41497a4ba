import { endOfTar, memberHeader, padding } from './tar-writer.ts';

/** One file of an archive that is being written. */
export interface ArchiveMember {
  readonly path: string;
  readonly sizeBytes: number;
  /** PAX records, such as those of a sparse file */
  readonly records?: ReadonlyMap<string, Buffer>;
  /** Yields exactly `sizeBytes`, or throws */
  readonly content: () => AsyncIterable<Buffer> | Iterable<Buffer>;
}

/** A member whose content is in memory. */
export function bytesMember(path: string, bytes: Buffer | string): ArchiveMember {
  const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
  return { path, sizeBytes: content.length, content: () => [content] };
}

/** A tar of plain files, the same bytes every time. */
export async function* archive(members: readonly ArchiveMember[]): AsyncGenerator<Buffer> {
  for (const { path, sizeBytes, records, content } of members) {
    yield memberHeader({
      path,
      type: '0',
      mode: 0o644,
      uid: 0,
      gid: 0,
      size: sizeBytes,
      mtime: { seconds: 0, nanoseconds: 0 },
      records,
    });
    let sent = 0;
    for await (const chunk of content()) {
      sent += chunk.length;
      yield chunk;
    }
    if (sent !== sizeBytes) throw new Error(`"${path}" has ${sent} bytes, not ${sizeBytes}`);
    yield padding(sizeBytes);
  }
  yield endOfTar;
}
