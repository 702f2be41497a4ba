import { extentsOf } from './extent-table.ts';
import { blockSize, inodeNumbers, inodeSize } from './format.ts';
import type { Geometry } from './geometry.ts';
import { encodeInode, inodeChecksumSeed, type InodeContents } from './inode.ts';
import { inodePosition } from './inode-table.ts';
import { journalBlocks, journalSuperblock } from './journal.ts';
import { extentContents, type NodeContext } from './node-writer.ts';
import { resizeInode } from './resize-inode.ts';

export interface Journal {
  readonly blockArea: Buffer;
  readonly sizeBytes: number;
}

/** Writes an empty journal for a filesystem of about that size, and its inode. */
export function writeJournal(context: NodeContext, filesystemBlocks: number, uuid: Buffer): Journal {
  const { file, allocator, checksumSeed } = context;
  const length = journalBlocks(filesystemBlocks);
  // Fresh blocks, which read as zeros: an old block could look like a transaction.
  const runs = allocator.allocateFresh(length);
  file.put((runs[0]?.start ?? 0) * blockSize, journalSuperblock(length, uuid));
  const seed = inodeChecksumSeed(checksumSeed, inodeNumbers.journal);
  const contents = extentContents(context, { size: length * blockSize, extents: extentsOf(runs) }, seed);
  writeSystemInode(context, inodeNumbers.journal, contents);
  return contents;
}

/** Writes the inode for growing while mounted. Its double-indirect block was taken before the size was decided. */
export async function writeResizeInode(
  context: NodeContext,
  geometry: Geometry,
  doubleIndirectBlock: number,
): Promise<void> {
  const resize = resizeInode(geometry, doubleIndirectBlock);
  writeSystemInode(context, inodeNumbers.resize, resize);
  for (const { block, data } of resize.contents) {
    context.file.put(block * blockSize, data);
    await context.file.ready();
  }
}

function writeSystemInode(context: NodeContext, inode: number, contents: InodeContents): void {
  const slot = Buffer.alloc(inodeSize);
  const attributes = { mode: 0o600, uid: 0, gid: 0, mtime: { low: 0, extra: 0 } };
  encodeInode(
    slot,
    { contents, type: 'file', attributes, links: 1, xattrBlock: 0, inlineXattrs: undefined },
    inodeChecksumSeed(context.checksumSeed, inode),
  );
  context.file.put(inodePosition(inode), slot);
}
