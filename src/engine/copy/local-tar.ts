import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  read,
  statSync,
  type Stats,
} from 'node:fs';
import { promisify } from 'node:util';
import { BangerError } from '../../errors.ts';
import { endOfTar, gnuMemberHeader, padding, type TarMember } from '../images/export/tar-writer.ts';
import { cannotUse } from './cannot-use.ts';

/** What has been packed or unpacked so far. */
export interface CopyCount {
  files: number;
  bytes: number;
  /** What was left out or changed on the way, in words */
  readonly notes: Set<string>;
}

export interface LocalTarInput {
  /** File or directory of this host */
  readonly path: string;
  /** What it is called in the tar; undefined: only what is in it */
  readonly name: string | undefined;
  /** The path itself may be a symlink, and what it leads to is meant */
  readonly follow: boolean;
  /** Owners, and the bits that let programs run as their owner, are kept; otherwise everything is root's */
  readonly keepOwners: boolean;
  readonly count: CopyCount;
  /** Asked about all but the path itself; what it says false to stays out, with all that is in it. It may throw. */
  readonly admits?: (source: Buffer, stats: Stats) => boolean;
}

const pieceBytes = 256 * 1024;
const readAsync = promisify(read);

/**
 * A tar of files of this host, which busybox can read, piece by piece. Names are bytes. A directory comes twice, before
 * and after what is in it: the second time, nothing changes its time any more.
 */
export async function* localTar(input: LocalTarInput): AsyncGenerator<Buffer> {
  yield* localMembers(input);
  yield endOfTar;
}

/** The same without the end, for a tar of several. */
export async function* localMembers(input: LocalTarInput): AsyncGenerator<Buffer> {
  const links = new Map<string, string>();
  const root = Buffer.from(input.path);
  const stats = withPath(root, () => (input.follow ? statSync(root) : lstatSync(root)));
  if (input.name === undefined) yield* children(input, { source: root, path: '', links });
  else yield* member(input, { source: root, path: Buffer.from(input.name).toString('latin1'), links }, stats);
}

interface Place {
  /** On this host */
  readonly source: Buffer;
  /** In the tar, as a byte string */
  readonly path: string;
  /** Where files with several names are in the tar, by inode */
  readonly links: Map<string, string>;
}

async function* member(input: LocalTarInput, place: Place, stats: Stats): AsyncGenerator<Buffer> {
  const { count } = input;
  const { source, path } = place;
  const head = headOf(input, path, stats);
  if (stats.isDirectory()) {
    const own = gnuMemberHeader({ ...head, path: `${path}/`, type: '5' });
    yield own;
    yield* children(input, place);
    yield own;
    return;
  }
  const inode = `${stats.dev}:${stats.ino}`;
  const linkPath = stats.nlink > 1 ? place.links.get(inode) : undefined;
  if (linkPath !== undefined) {
    count.files++;
    yield gnuMemberHeader({ ...head, type: '1', linkPath });
    return;
  }
  if (stats.nlink > 1) place.links.set(inode, path);
  if (stats.isFile()) yield* fileMember(input, source, head);
  else if (stats.isSymbolicLink()) {
    const target = withPath(source, () => readlinkSync(source, { encoding: 'buffer' }));
    yield gnuMemberHeader({ ...head, type: '2', linkPath: target.toString('latin1') });
  } else if (stats.isFIFO()) yield gnuMemberHeader({ ...head, type: '6' });
  else if (stats.isSocket()) return void count.notes.add('Sockets were left out');
  else {
    const type = stats.isCharacterDevice() ? '3' : '4';
    yield gnuMemberHeader({ ...head, type, device: deviceOf(stats.rdev) });
  }
  count.files++;
}

async function* children(input: LocalTarInput, { source, path, links }: Place): AsyncGenerator<Buffer> {
  const names = withPath(source, () => readdirSync(source, { encoding: 'buffer' })).sort(Buffer.compare);
  for (const name of names) {
    const child = Buffer.concat([source, Buffer.from('/'), name]);
    const stats = withPath(child, () => lstatSync(child));
    if (input.admits && !input.admits(child, stats)) continue;
    const own = name.toString('latin1');
    yield* member(input, { source: child, path: path === '' ? own : `${path}/${own}`, links }, stats);
  }
}

async function* fileMember(input: LocalTarInput, source: Buffer, head: TarMember): AsyncGenerator<Buffer> {
  // Not blocking: what was a file may be a pipe by now, and opening one waits for a writer.
  const noFollow = input.follow ? 0 : constants.O_NOFOLLOW;
  const fd = withPath(source, () => openSync(source, constants.O_RDONLY | constants.O_NONBLOCK | noFollow));
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw changed(source);
    // A file that grows meanwhile, such as a log, is copied as far as it went.
    const { size } = stats;
    yield gnuMemberHeader({ ...head, type: '0', size });
    for (let at = 0; at < size;) {
      const piece = Buffer.allocUnsafe(Math.min(pieceBytes, size - at));
      const { bytesRead } = await readAsync(fd, piece, 0, piece.length, at).catch((error: unknown) => {
        throw cannotUse(source.toString(), error);
      });
      if (bytesRead === 0) throw changed(source);
      yield piece.subarray(0, bytesRead);
      at += bytesRead;
      input.count.bytes += bytesRead;
    }
    yield padding(size);
  } finally {
    closeSync(fd);
  }
}

function headOf({ keepOwners }: LocalTarInput, path: string, stats: Stats): TarMember {
  return {
    path,
    type: '0',
    mode: stats.mode & (keepOwners ? 0o7777 : 0o1777),
    uid: keepOwners ? stats.uid : 0,
    gid: keepOwners ? stats.gid : 0,
    size: 0,
    mtime: { seconds: Math.floor(stats.mtimeMs / 1000), nanoseconds: 0 },
  };
}

/** Linux's device numbers, as `stat` gives them: see makedev(3). */
function deviceOf(rdev: number): { major: number; minor: number } {
  const wide = BigInt(rdev);
  return {
    major: Number(((wide >> 8n) & 0xfffn) | ((wide >> 32n) & 0xfffff000n)),
    minor: Number((wide & 0xffn) | ((wide >> 12n) & 0xffffff00n)),
  };
}

function withPath<T>(path: Buffer, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw cannotUse(path.toString(), error);
  }
}

function changed(path: Buffer): BangerError {
  return new BangerError('busy', `"${path.toString()}" became shorter while it was being copied`, {
    hint: 'Let the program that writes it finish, then copy again',
  });
}
