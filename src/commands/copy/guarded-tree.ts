import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
  type Stats,
} from 'node:fs';
import { BangerError, errnoOf } from '../../errors.ts';
import { shownName } from '../../engine/images/layers/layer-refusal.ts';
import { cannotUse } from '../../engine/copy/cannot-use.ts';

/** What an entry brings besides its content. */
export interface Attributes {
  readonly mode: number;
  readonly mtimeSeconds: number;
  /** Absent: the entry is the user's own */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** Names from the root of the tree down, as byte strings without `/`, `.` and `..` */
export type Names = readonly string[];

interface OpenDirectory {
  readonly name: string;
  readonly descriptor: number;
  /** Given when it is left. Absent: it was there before, and stays as it was */
  readonly attributes?: Attributes;
}

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const fileFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Every level holds a descriptor open. */
const maxDepth = 256;
/** A piece of zeros becomes a hole. */
const holeBytes = 4096;
const zeros = Buffer.alloc(1024 * 1024);

/**
 * Writes what somebody else has named into a directory, and nowhere else.
 *
 * Every directory on the way is held open, and each name is looked up in the open one (`/proc/self/fd/N/NAME`): never
 * a path of several names, never over a symlink, whoever put it there and when. A file has another name until it is
 * complete. What this copy has made itself is never replaced by it: that would be one name twice, or two names that the
 * filesystem takes for one.
 */
export class GuardedTree implements Disposable {
  readonly #path: string;
  readonly #open: OpenDirectory[] = [];
  /** Inodes, by device: this copy may be of millions of files */
  readonly #made = new Map<number, Set<number>>();
  #unfinished: (() => void) | undefined;
  #temporaries = 0;

  /** The root is the user's choice: symlinks in it are followed. */
  constructor(path: string) {
    this.#path = path;
    this.#open.push({
      name: '',
      descriptor: this.#try([], () => openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)),
    });
  }

  /** Makes a directory, or goes into the one that is there. */
  directory(names: Names, attributes: Attributes): void {
    if (names.length > maxDepth)
      throw new BangerError('command_failed', `What is to be copied is deeper than ${maxDepth} directories`);
    const name = names.at(-1)!;
    const parent = this.#enter(names.slice(0, -1));
    this.#try(names, () => {
      const before = lookAt(at(parent, name));
      if (!before) mkdirSync(at(parent, name), 0o700);
      const descriptor = openSync(at(parent, name), directoryFlags);
      this.#open.push({ name, descriptor, attributes: before ? undefined : attributes });
      this.#remember(names, fstatSync(descriptor));
    });
  }

  /** Writes a file piece by piece. Until `finish`, what was there before is there still. */
  file(names: Names): GuardedFile {
    const name = names.at(-1)!;
    const parent = this.#enter(names.slice(0, -1));
    const temporary = at(parent, `.banger-cp-${process.pid}-${++this.#temporaries}`);
    this.#refuseOwn(names, parent);
    const descriptor = this.#try(names, () => openSync(temporary, fileFlags, 0o600));
    const abandon = (): void => {
      closeSync(descriptor);
      unlinkSync(temporary);
      this.#unfinished = undefined;
    };
    this.#unfinished = abandon;
    return {
      write: (offset, data) => this.#try(names, () => writeAll(descriptor, offset, data)),
      finish: (sizeBytes, attributes) =>
        this.#try(names, () => {
          ftruncateSync(descriptor, sizeBytes);
          applyAttributes(descriptor, attributes);
          this.#remember(names, fstatSync(descriptor));
          renameSync(temporary, at(parent, name));
          this.#unfinished = undefined;
          closeSync(descriptor);
        }),
    };
  }

  symlink(names: Names, target: string, { mtimeSeconds, owner }: Attributes): void {
    this.#place(names, (path) => {
      symlinkSync(Buffer.from(target, 'latin1'), path);
      if (owner) lchownSync(path, owner.uid, owner.gid);
      lutimesSync(path, mtimeSeconds, mtimeSeconds);
    });
  }

  /** One more name for a file that this copy has made. */
  hardLink(names: Names, target: Names): void {
    // Beside the directories that are open: to leave one would give it its time too early.
    const descriptor = this.#openApart(target.slice(0, -1));
    try {
      const file = at(descriptor, target.at(-1)!);
      const found = this.#try(target, () => lstatSync(file));
      if (!found.isFile() || !this.#isOurs(found))
        throw new BangerError(
          'command_failed',
          `"${this.#shown(names)}" is to be a hard link to "${this.#shown(target)}", which was not copied`,
        );
      this.#place(
        names,
        (path) => linkSync(file, path),
        () => undefined,
      );
    } finally {
      closeSync(descriptor);
    }
  }

  /** Leaves every directory, which gives it its attributes. */
  finish(): void {
    while (this.#open.length > 1) this.#leave();
  }

  /** Removes the file that is being written, at once. */
  abandon(): void {
    try {
      this.#unfinished?.();
    } catch {
      // It may be gone with its directory.
    }
  }

  [Symbol.dispose](): void {
    this.abandon();
    for (const { descriptor } of this.#open.splice(0)) closeSync(descriptor);
  }

  /** Makes something under another name and moves it to its own, so that it replaces what is there in one step. */
  #place(
    names: Names,
    make: (path: Buffer) => void,
    remember = (path: Buffer) => this.#remember(names, lstatSync(path)),
  ): void {
    const parent = this.#enter(names.slice(0, -1));
    this.#refuseOwn(names, parent);
    const temporary = at(parent, `.banger-cp-${process.pid}-${++this.#temporaries}`);
    this.#try(names, () => {
      make(temporary);
      try {
        remember(temporary);
        renameSync(temporary, at(parent, names.at(-1)!));
      } catch (error) {
        unlinkSync(temporary);
        throw error;
      }
    });
  }

  /** The descriptor of a directory that is open, or opened name by name. */
  #enter(names: Names): number {
    const open = this.#open;
    let shared = 0;
    while (shared < names.length && open[shared + 1]?.name === names[shared]) shared++;
    while (open.length - 1 > shared) this.#leave();
    for (const [index, name] of names.slice(shared).entries()) {
      const parent = open.at(-1)!.descriptor;
      const descriptor = this.#try(names.slice(0, shared + index + 1), () =>
        openSync(at(parent, name), directoryFlags),
      );
      open.push({ name, descriptor });
    }
    return open.at(-1)!.descriptor;
  }

  #openApart(names: Names): number {
    let descriptor = this.#try([], () => openSync(at(this.#open[0]!.descriptor, '.'), directoryFlags));
    for (const [index, name] of names.entries()) {
      const parent = descriptor;
      try {
        descriptor = this.#try(names.slice(0, index + 1), () => openSync(at(parent, name), directoryFlags));
      } finally {
        closeSync(parent);
      }
    }
    return descriptor;
  }

  #leave(): void {
    const { descriptor, attributes } = this.#open.pop()!;
    try {
      if (attributes) applyAttributes(descriptor, attributes);
    } finally {
      closeSync(descriptor);
    }
  }

  #refuseOwn(names: Names, parent: number): void {
    const found = this.#try(names, () => lookAt(at(parent, names.at(-1)!)));
    if (found?.isDirectory())
      throw cannotUse(this.#shown(names), Object.assign(new Error(), { code: 'EISDIR' }));
    if (found && this.#isOurs(found)) throw this.#twice(names);
  }

  #remember(names: Names, stats: Stats): void {
    if (stats.isDirectory() && this.#isOurs(stats)) throw this.#twice(names);
    const inodes = this.#made.get(stats.dev) ?? new Set();
    this.#made.set(stats.dev, inodes.add(stats.ino));
  }

  #isOurs({ dev, ino }: Stats): boolean {
    return this.#made.get(dev)?.has(ino) ?? false;
  }

  #twice(names: Names): BangerError {
    return new BangerError(
      'command_failed',
      `"${this.#shown(names)}" comes twice, or in two spellings that this filesystem takes for one`,
      { hint: 'Get everything as it is, in a tar, with - as the destination' },
    );
  }

  #try<T>(names: Names, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw cannotUse(this.#shown(names), error);
    }
  }

  #shown(names: Names): string {
    return [this.#path.replace(/\/$/, ''), ...names.map(shownName)].join('/');
  }
}

export interface GuardedFile {
  write(offset: number, data: Buffer): void;
  finish(sizeBytes: number, attributes: Attributes): void;
}

/** A name in an open directory. */
function at(directory: number, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${directory}/${name}`, 'latin1');
}

function lookAt(path: Buffer): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function writeAll(descriptor: number, offset: number, data: Buffer): void {
  if (data.length >= holeBytes && data.length <= zeros.length && data.equals(zeros.subarray(0, data.length)))
    return;
  for (let done = 0; done < data.length;)
    done += writeSync(descriptor, data, done, data.length - done, offset + done);
}

function applyAttributes(descriptor: number, { mode, mtimeSeconds, owner }: Attributes): void {
  if (owner) fchownSync(descriptor, owner.uid, owner.gid);
  fchmodSync(descriptor, mode);
  futimesSync(descriptor, mtimeSeconds, mtimeSeconds);
}
