import { BangerError } from '../../../errors.ts';
import { Turns } from '../ext4/turns.ts';
import { deviceOf, type Inode, type InodeKind } from '../ext4-reader/inode.ts';
import { DamagedFilesystem } from '../ext4-reader/damage.ts';
import { Ext4Reader } from '../ext4-reader/ext4-reader.ts';
import { walkFilesystem } from '../ext4-reader/walk.ts';
import { whiteoutPrefix } from '../layers/entry-path.ts';
import { shownName } from '../layers/layer-refusal.ts';
import { endOfTar, memberHeader, padding } from './tar-writer.ts';

const memberTypes: Readonly<Record<Exclude<InodeKind, 'socket'>, string>> = {
  file: '0',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

/** Holes count: a tar for everybody has no way to leave them out. */
const maxContentBytes = 256 * 2 ** 30;

/**
 * A whole filesystem as the tar of one layer. Equal filesystems give equal bytes. Sockets are left out, as docker
 * does: they mean nothing without who listens.
 */
export async function* layerTar(rootfs: string): AsyncGenerator<Buffer> {
  const reader = await Ext4Reader.open(rootfs);
  try {
    // By inode: the first of several names; the others are links to it.
    const firstNames = new Map<number, string>();
    let contentBytes = 0;
    const turns = new Turns();
    for await (const { path, inode } of walkFilesystem(reader)) {
      if (inode.kind === 'socket') continue;
      if (path.slice(path.lastIndexOf('/') + 1).startsWith(whiteoutPrefix)) throw meansDeletion(path);
      const first = firstNames.get(inode.number);
      if (first !== undefined) {
        yield memberHeader({ ...attributes(inode), path, type: '1', size: 0, linkPath: first });
        continue;
      }
      if (inode.links > 1 && inode.kind !== 'directory') firstNames.set(inode.number, path);
      const size = inode.kind === 'file' ? inode.sizeBytes : 0;
      contentBytes += size;
      if (contentBytes > maxContentBytes)
        throw new DamagedFilesystem(`has files of more than ${maxContentBytes} bytes, holes included`);
      yield memberHeader({
        ...attributes(inode),
        path: inode.kind === 'directory' ? `${path === '' ? '.' : path}/` : path,
        type: memberTypes[inode.kind],
        size,
        linkPath: inode.kind === 'symlink' ? await reader.target(inode) : '',
        device: inode.kind === 'char' || inode.kind === 'block' ? deviceOf(inode) : undefined,
        records: await xattrRecords(reader, inode),
      });
      if (size === 0) continue;
      for await (const piece of reader.contents(inode)) {
        yield piece;
        // Nothing is waited for in a hole, which may be hundreds of gigabytes long.
        if (turns.isDue) await turns.share();
      }
      yield padding(size);
    }
    yield endOfTar;
  } finally {
    await reader.close();
  }
}

function attributes(inode: Inode): Pick<Inode, 'mode' | 'uid' | 'gid' | 'mtime'> {
  return { mode: inode.mode, uid: inode.uid, gid: inode.gid, mtime: inode.mtime };
}

async function xattrRecords(reader: Ext4Reader, inode: Inode): Promise<Map<string, Buffer>> {
  const records = new Map<string, Buffer>();
  const xattrs = await reader.xattrs(inode);
  for (const name of [...xattrs.keys()].sort()) {
    // A key of a PAX record ends at its first equals sign.
    if (!name.includes('=')) records.set(`SCHILY.xattr.${name}`, xattrs.get(name)!);
  }
  return records;
}

function meansDeletion(path: string): BangerError {
  const what = `The image has a file "${shownName(path)}", and in a layer such a name says that another file is deleted`;
  return new BangerError('invalid_state', what, {
    hint: 'Rename the file in it, or write the image as it is, for other hosts of banger, with: banger image bundle',
  });
}
