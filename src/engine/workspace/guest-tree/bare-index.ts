import { createHash } from 'node:crypto';
import type { GitEntry } from './changes-format.ts';
import type { RawPath } from '../host-tree/raw-path.ts';

/**
 * An index of git's that has these entries, and knows nothing of the files: git reads them. Version 2, as any git does.
 * See gitformat-index(5).
 */
export function bareIndex(entries: Iterable<readonly [RawPath, GitEntry]>): Buffer {
  // Latin1: by their bytes, as git has them.
  const sorted = [...entries].sort(([one], [other]) => (one < other ? -1 : 1));
  const header = Buffer.alloc(12);
  header.write('DIRC');
  header.writeUInt32BE(2, 4);
  header.writeUInt32BE(sorted.length, 8);
  const content = Buffer.concat([header, ...sorted.map(([path, entry]) => indexEntry(path, entry))]);
  const isSha256 = sorted[0]?.[1].oid.length === 64;
  return Buffer.concat([
    content,
    createHash(isSha256 ? 'sha256' : 'sha1')
      .update(content)
      .digest(),
  ]);
}

const modeAt = 24;
const oidAt = 40;
const longestNoted = 0xfff;

function indexEntry(path: RawPath, { mode, oid }: GitEntry): Buffer {
  const flagsAt = oidAt + oid.length / 2;
  const length = flagsAt + 2 + path.length;
  // One zero byte ends the path, and up to seven fill it up.
  const entry = Buffer.alloc((length & ~7) + 8);
  entry.writeUInt32BE(Number.parseInt(mode, 8), modeAt);
  entry.write(oid, oidAt, 'hex');
  entry.writeUInt16BE(Math.min(path.length, longestNoted), flagsAt);
  entry.write(path, flagsAt + 2, 'latin1');
  return entry;
}
