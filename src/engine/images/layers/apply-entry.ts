import { parseEntryPath, whiteoutPrefix } from './entry-path.ts';
import type { BlockAllocator } from '../ext4/block-allocator.ts';
import type { BlockFile } from '../ext4/block-file.ts';
import { ContentsWriter } from '../ext4/file-contents.ts';
import { blockSize, maxSymlinkLength } from '../ext4/format.ts';
import type { Attributes, FileNode, Node } from '../ext4/nodes.ts';
import { encodeXattrs, isStorableXattr, XattrsRefused } from '../ext4/xattrs.ts';
import type { HostRoom } from './host-room.ts';
import { LayerRefusal } from './layer-refusal.ts';
import type { RootfsTree } from './rootfs-tree.ts';
import type { TarEntry } from './tar-entry.ts';
import type { TarReader } from './tar-reader.ts';

/** The image so far: contents are in their blocks, everything else in the tree. */
export interface ImageUnderConstruction {
  readonly file: BlockFile;
  readonly allocator: BlockAllocator;
  readonly tree: RootfsTree;
  readonly room: HostRoom;
}

const opaqueMarker = '.wh..wh..opq';
/** Room on the host is asked for so far ahead of what is written. */
const aheadBytes = 2 ** 30;
/** Other names AUFS kept for itself, such as its store of hard links; docker leaves them out too. */
const whiteoutMetaPrefix = '.wh..wh.';

/** Applies the entry the reader is at. */
export async function applyEntry(
  image: ImageUnderConstruction,
  entry: TarEntry,
  reader: TarReader,
): Promise<void> {
  const names = parseEntryPath(entry.path);
  const name = names.at(-1) ?? '';
  if (name === opaqueMarker) {
    image.tree.makeOpaque(names.slice(0, -1));
  } else if (names.some((each) => each.startsWith(whiteoutMetaPrefix))) {
    return;
  } else if (name.startsWith(whiteoutPrefix)) {
    image.tree.whiteout([...names.slice(0, -1), hiddenName(name)]);
  } else if (entry.type === 'hardlink') {
    image.tree.link(names, parseEntryPath(entry.linkPath));
  } else {
    image.tree.put(names, entry.type === 'file' ? await writeFile(image, entry, reader) : nodeOf(entry));
  }
}

function hiddenName(whiteout: string): string {
  const name = whiteout.slice(whiteoutPrefix.length);
  if (name === '' || name === '.' || name === '..') throw new LayerRefusal(`is a whiteout of "${name}"`);
  return name;
}

function nodeOf(entry: TarEntry): Node {
  const attributes = attributesOf(entry);
  switch (entry.type) {
    case 'directory':
      return { kind: 'directory', ...attributes };
    case 'symlink':
      return { kind: 'symlink', ...attributes, target: symlinkTarget(entry.linkPath) };
    case 'char':
    case 'block':
      checkDevice(entry);
      return { kind: entry.type, ...attributes, major: entry.major, minor: entry.minor };
    case 'fifo':
      return { kind: 'fifo', ...attributes };
    case 'file':
    case 'hardlink':
      throw new Error(`a ${entry.type} is made in another way`);
  }
}

async function writeFile(
  image: ImageUnderConstruction,
  entry: TarEntry,
  reader: TarReader,
): Promise<FileNode> {
  const attributes = attributesOf(entry);
  const { allocator, room } = image;
  const before = allocator.end;
  const { extents } = image.tree.files.nodes;
  const place = extents.allocate(allocator, entry.size, entry.stretches);
  // Of what an entry claims to have, only so much is wished for as may come next: most of it may never come.
  let soon = before * blockSize + aheadBytes;
  const asking = room.reach(Math.min(allocator.end * blockSize, soon));
  if (asking) await asking;
  const contents = new ContentsWriter(image.file, extents.at(place, entry.size));
  if (entry.size > 0) {
    await reader.body((offset, data) => {
      contents.write(offset, data);
      soon += data.length;
      const wait = room.reach(Math.min(allocator.end * blockSize, soon));
      if (wait) return wait.then(() => image.file.ready());
      return image.file.isReady ? undefined : image.file.ready();
    });
  }
  contents.finish();
  return { kind: 'file', ...attributes, size: entry.size, place };
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: TarEntry): Attributes {
  if (!xattrs) return { mode, uid, gid, mtime, xattrs };
  const kept = [...xattrs].filter(([name]) => isStorableXattr(name));
  const attributes = { mode, uid, gid, mtime, xattrs: kept.length === 0 ? undefined : new Map(kept) };
  try {
    // Now, while it is known which entry they came with.
    encodeXattrs(attributes.xattrs);
  } catch (error) {
    if (error instanceof XattrsRefused) throw new LayerRefusal(error.message);
    throw error;
  }
  return attributes;
}

function symlinkTarget(target: string): string {
  if (target === '') throw new LayerRefusal('is a symlink to nothing');
  if (target.includes('\0')) throw new LayerRefusal('is a symlink with a zero byte in its target');
  if (target.length > maxSymlinkLength)
    throw new LayerRefusal(`is a symlink to more than ${maxSymlinkLength} bytes`);
  return target;
}

/** Linux has 12 bits for the major number and 20 for the minor one. */
function checkDevice({ major, minor }: TarEntry): void {
  if (major < 0 || major >= 2 ** 12 || minor < 0 || minor >= 2 ** 20) {
    throw new LayerRefusal(`is a device with the number ${major}:${minor}`);
  }
}
