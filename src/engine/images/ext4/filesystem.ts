import { createHash } from 'node:crypto';
import { abortError, BangerError } from '../../../errors.ts';
import type { BlockAllocator } from './block-allocator.ts';
import type { BlockFile } from './block-file.ts';
import { crc32c } from './crc32c.ts';
import { type FileTree, implicitDirectory } from './file-tree.ts';
import { blockSize, inodeSize, inodesPerGroup } from './format.ts';
import { type Geometry, geometryOf, groupLayout, planBlocks } from './geometry.ts';
import { writeGroups } from './groups.ts';
import { InodeTable } from './inode-table.ts';
import { type NodeContext, writeNode } from './node-writer.ts';
import type { NodeId } from './node-table.ts';
import { inOrder, numberNodes } from './numbering.ts';
import { writeJournal, writeResizeInode } from './system-inodes.ts';
import { Turns } from './turns.ts';
import { encodeSuperblock, type Identity, type SuperblockFields } from './superblock.ts';

export interface FilesystemOptions {
  /** Size to make it, unless the contents need more */
  readonly sizeBytes: number;
  /** Equal seeds and trees give equal bytes */
  readonly seed: string;
  readonly label: string;
  readonly signal: AbortSignal;
  /** Asked before so many bytes of the file are in use, inodes counted apart; undefined where there is room */
  readonly reach?: (bytes: number) => Promise<void> | undefined;
}

export interface WrittenFilesystem {
  readonly sizeBytes: number;
  /** What contents and directories occupy */
  readonly contentBytes: number;
}

/**
 * Completes a filesystem whose file contents are already in their blocks:
 * directories, inodes, journal, bitmaps, descriptors and superblocks. Nothing
 * else may use file or allocator afterwards.
 */
export async function writeFilesystem(
  file: BlockFile,
  allocator: BlockAllocator,
  tree: FileTree,
  options: FilesystemOptions,
): Promise<WrittenFilesystem> {
  const identity = identityOf(options);
  const context: NodeContext = { file, allocator, checksumSeed: crc32c(0xffffffff, identity.uuid) };
  allocator.reclaim();
  const { lastInode, directories } = await writeNodes(context, tree, options);
  const contentBytes = allocator.usedBytes;

  // Journal and resize inode come last: their sizes depend on that of the filesystem, which they may push up.
  const journal = writeJournal(context, plan(options, allocator, lastInode).blocks, identity.uuid);
  const [doubleIndirect] = allocator.allocate(1);
  const geometry = plan(options, allocator, lastInode);
  await writeResizeInode(context, geometry, doubleIndirect?.start ?? 0);
  await zeroFreeRuns(file, allocator);

  const groups = await writeGroups(file, {
    geometry,
    allocator,
    lastInode,
    directories,
    checksumSeed: context.checksumSeed,
  });
  writeSuperblocks(file, groups.descriptors, {
    geometry,
    identity,
    freeBlocks: groups.freeBlocks,
    freeInodes: groups.freeInodes,
    journalBlockArea: journal.blockArea,
    journalBytes: journal.sizeBytes,
  });
  await file.resize(geometry.blocks * blockSize);
  return { sizeBytes: geometry.blocks * blockSize, contentBytes };
}

function identityOf({ seed, label }: FilesystemOptions): Identity {
  const digest = createHash('sha256').update(seed).digest();
  const uuid = digest.subarray(0, 16);
  // Version 8 (vendor-specific contents), variant 1
  uuid.writeUInt8((uuid.readUInt8(6) & 0x0f) | 0x80, 6);
  uuid.writeUInt8((uuid.readUInt8(8) & 0x3f) | 0x80, 8);
  return { uuid, hashSeed: digest.subarray(16, 32), label };
}

interface WrittenNodes {
  readonly lastInode: number;
  readonly directories: ReadonlyMap<number, number>;
}

async function writeNodes(
  context: NodeContext,
  tree: FileTree,
  { signal, reach }: FilesystemOptions,
): Promise<WrittenNodes> {
  const ordered = numberNodes(tree, ensureLostAndFound(tree));
  const table = new InodeTable(context.file);
  const directories = new Map<number, number>();
  const turns = new Turns();
  let lastInode = 0;
  for (const numbered of inOrder(tree, ordered)) {
    lastInode = tree.nodes.inode(numbered.node);
    table.put(lastInode, writeNode(context, tree, numbered));
    if (tree.nodes.isDirectory(numbered.node)) {
      const group = Math.floor((lastInode - 1) / inodesPerGroup);
      directories.set(group, (directories.get(group) ?? 0) + 1);
    }
    if (turns.isDue) await turns.share();
    if (signal.aborted) throw abortError(signal);
    const asking = reach?.(context.allocator.end * blockSize + lastInode * inodeSize);
    if (asking) await asking;
    if (!context.file.isReady) await context.file.ready();
  }
  table.flush();
  return { lastInode, directories };
}

/** e2fsck puts what it finds there, and counts its absence as damage. */
function ensureLostAndFound(tree: FileTree): NodeId {
  const name = 'lost+found';
  const existing = tree.child(tree.root, name);
  if (existing === 0) {
    const created = tree.nodes.add({ ...implicitDirectory, mode: 0o700 });
    tree.names.add(tree.root, name, created);
    return created;
  }
  if (tree.nodes.isDirectory(existing)) return existing;
  throw new BangerError('invalid_argument', `The image has a "/${name}" that is not a directory`);
}

function plan(options: FilesystemOptions, allocator: BlockAllocator, inodes: number): Geometry {
  const blocks = planBlocks({
    requestedBytes: options.sizeBytes,
    contentBytes: allocator.usedBytes,
    inodes,
    endBlock: allocator.end,
  });
  if (blocks === undefined)
    throw new BangerError('invalid_argument', 'The image is too large for one filesystem');
  return geometryOf(blocks);
}

/** What a later layer deleted is not left readable, and compresses to nothing. */
async function zeroFreeRuns(file: BlockFile, allocator: BlockAllocator): Promise<void> {
  for (const run of allocator.freeRuns) {
    for (let done = 0; done < run.length; done += 256) {
      file.putZeros((run.start + done) * blockSize, Math.min(256, run.length - done) * blockSize);
      await file.ready();
    }
  }
}

/** The first superblock is 1024 bytes into its block, its copies are at the start of theirs. */
function writeSuperblocks(file: BlockFile, descriptors: Buffer, fields: SuperblockFields): void {
  for (let group = 0; group < fields.geometry.groups; group++) {
    const { start, hasBackup } = groupLayout(group);
    if (!hasBackup) continue;
    file.put(start * blockSize + (group === 0 ? 1024 : 0), encodeSuperblock(fields, group));
    file.put((start + 1) * blockSize, descriptors);
  }
}
