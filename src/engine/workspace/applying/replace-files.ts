import type { BigIntStats } from 'node:fs';
import { chmod, lchown, lstat, mkdir, rmdir, unlink } from 'node:fs/promises';
import { abortError, BangerError, errnoOf, errorText, explainHostError } from '../../../errors.ts';
import { failpoint } from '../../failpoints.ts';
import { keepUnder, lstatIfThere, moveOver, moveToFree } from './move-files.ts';
import { parents } from './path-collisions.ts';
import { displayPath, hostBytes, type RawPath } from '../host-tree/raw-path.ts';
import { stampOf } from '../host-tree/tree-files.ts';

/** A file of a working tree that another takes the place of, or that goes. */
export interface Replacement {
  readonly path: RawPath;
  /** The new file, on the same filesystem if possible; absent when the path is to be gone */
  readonly staged?: Buffer;
  /** Of the file that is there, as `TreeFile` has it; absent when there is none */
  readonly stamp?: string;
}

export interface ReplaceInput {
  readonly topLevel: string;
  /** Empty private directory, for the files that were there until all are replaced */
  readonly backups: string;
  /** Keeps them if they cannot be put back, and tells where they are then */
  readonly keep: () => Promise<string>;
  /** Of whoever the files are for: the engine's own is stricter */
  readonly umask: number;
  readonly signal: AbortSignal;
}

/**
 * Replaces files of a working tree: all of them or, when something fails or is cancelled, none.
 *
 * A file is either the old one or the new one at every moment, and only one that is still as it was looked at is
 * replaced. Nothing is written through a symlink, into a repository inside the tree, or over a file that nobody
 * expected there. Throws `busy` for such, and what the host says for the rest.
 */
export async function replaceFiles(
  replacements: readonly Replacement[],
  { topLevel, backups, keep, umask, signal }: ReplaceInput,
): Promise<void> {
  const work = new Replacing(topLevel, backups, umask);
  // Those that go come first: a file may become a directory. Symlinks come last, when nothing is written any more.
  const rank = ({ staged, isLink }: Ranked): number => (!staged ? 0 : isLink ? 2 : 1);
  const ranked = await Promise.all(
    replacements.map(async (each): Promise<Ranked> => ({
      ...each,
      isLink: each.staged !== undefined && (await lstat(each.staged)).isSymbolicLink(),
    })),
  );
  try {
    for (const each of ranked) await work.check(each);
    for (const each of ranked.toSorted((one, other) => rank(one) - rank(other))) {
      if (signal.aborted) throw abortError(signal);
      await work.replace(each);
      await failpoint(`replaced ${displayPath(each.path)}`);
    }
  } catch (error) {
    await work.undo(error, keep);
    throw nothingWritten(error, topLevel);
  }
}

type Ranked = Replacement & { readonly isLink: boolean };

class Replacing {
  readonly #topLevel: string;
  readonly #backups: string;
  readonly #umask: number;
  /** Files that got another name by us, or lost one: their time of change tells no more whether somebody else did that */
  readonly #linked = new Set<string>();
  readonly #undo: { readonly path: RawPath; run(): Promise<void> }[] = [];
  #count = 0;

  constructor(topLevel: string, backups: string, umask: number) {
    this.#topLevel = topLevel;
    this.#backups = backups;
    this.#umask = umask;
  }

  /** Throws unless what is at a path is what was looked at. */
  async check({ path, stamp }: Replacement): Promise<BigIntStats | undefined> {
    const stats = await lstatIfThere(this.#host(path));
    if (stats && stamp !== undefined && this.#isAsBefore(stats, stamp)) return stats;
    if (stats === undefined && stamp === undefined) return undefined;
    // One whose files all go first becomes a file; one that does not is in the way then.
    if (stats?.isDirectory() && stamp === undefined) return undefined;
    const what =
      stamp === undefined
        ? `"${displayPath(path)}" is in the way: git does not track it here`
        : `"${displayPath(path)}" has changed meanwhile`;
    throw new BangerError('busy', what, {
      hint: `Move it away, or try again: banger workspace apply ${this.#topLevel}`,
    });
  }

  #isAsBefore(stats: BigIntStats, stamp: string): boolean {
    const now = stampOf(stats);
    if (!this.#linked.has(inodeOf(stats))) return now === stamp;
    const withoutChange = (text: string): string => text.slice(0, text.lastIndexOf(':'));
    return withoutChange(now) === withoutChange(stamp);
  }

  async replace(replacement: Ranked): Promise<void> {
    const { path, staged, isLink } = replacement;
    const target = this.#host(path);
    await this.#checkParents(path, staged !== undefined);
    // As late as can be: whoever edits it does so before or after.
    const old = await this.check(replacement);
    if (staged === undefined) {
      if (old) await this.#remove(path, target, old);
      return;
    }
    if (!isLink) await this.#dress(staged, old, path);
    if (old) {
      await this.#keep(path, target, old);
      return moveOver(staged, target);
    }
    await this.#moveToFree(staged, target, path);
    this.#undo.push({ path, run: () => unlink(target) });
  }

  async #moveToFree(staged: Buffer, target: Buffer, path: RawPath): Promise<void> {
    if (await moveToFree(staged, target)) return;
    const isDirectory = (await lstatIfThere(target))?.isDirectory();
    const what = isDirectory ? 'is a directory with files that git does not track' : 'has just been made';
    throw new BangerError('busy', `"${displayPath(path)}" ${what} here`);
  }

  /** Takes everything back, the last first. Throws, naming what is left, when that does not work. */
  async undo(cause: unknown, keep: ReplaceInput['keep']): Promise<void> {
    const left: RawPath[] = [];
    for (const { path, run } of this.#undo.toReversed()) {
      await run().catch(() => left.push(path));
    }
    if (left.length === 0) return;
    const kept = await keep();
    const names = left.slice(0, 3).map((path) => `"${displayPath(path)}"`);
    const more = left.length > names.length ? ` and ${left.length - names.length} more` : '';
    throw new BangerError(
      'command_failed',
      `${errorText(cause)}; ${names.join(', ')}${more} could not be put back as before`,
      { hint: `As they were, they are in: ls ${kept}`, cause },
    );
  }

  async #remove(path: RawPath, target: Buffer, old: BigIntStats): Promise<void> {
    await this.#keep(path, target, old);
    await unlink(target);
    // As git does, without the directories that are empty now.
    for (const parent of parents(path).toReversed()) {
      const directory = this.#host(parent);
      const mode = Number((await lstat(directory)).mode & 0o7777);
      try {
        await rmdir(directory);
      } catch {
        return;
      }
      this.#undo.push({ path: parent, run: () => makeDirectory(directory, mode) });
    }
  }

  /** Has a second name for a file, by which it is put back. */
  async #keep(path: RawPath, target: Buffer, old: BigIntStats): Promise<void> {
    const name = `${this.#count++}-${path.replaceAll('/', '_').slice(-200)}`;
    const backup = hostBytes(this.#backups, name);
    this.#linked.add(inodeOf(old));
    await keepUnder(target, backup);
    this.#undo.push({ path, run: () => moveOver(backup, target) });
  }

  /** Makes directories that are missing; one that is a symlink, or another repository, is not entered. */
  async #checkParents(path: RawPath, make: boolean): Promise<void> {
    for (const parent of parents(path)) {
      const directory = this.#host(parent);
      const stats = await lstatIfThere(directory);
      if (stats?.isDirectory()) {
        if (!(await lstatIfThere(Buffer.concat([directory, Buffer.from('/.git')])))) continue;
        throw new BangerError('invalid_state', `"${displayPath(parent)}" is a repository of its own here`, {
          hint: `Take "${displayPath(path)}" from the patch: banger workspace export ${this.#topLevel}`,
        });
      }
      if (stats?.isSymbolicLink()) {
        throw new BangerError(
          'invalid_state',
          `"${displayPath(path)}" is beyond a symbolic link here, "${displayPath(parent)}"`,
          { hint: `See where it leads: ls -ld ${displayPath(parent)}` },
        );
      }
      if (stats) throw new BangerError('busy', `"${displayPath(parent)}" is a file that is in the way`);
      if (!make) return;
      await makeDirectory(directory, 0o777 & ~this.#umask);
      this.#undo.push({ path: parent, run: () => rmdir(directory) });
    }
  }

  /** Permissions of the file that was there, but for execution; of a new one, those of any new file of this user. */
  async #dress(staged: Buffer, old: BigIntStats | undefined, path: RawPath): Promise<void> {
    const isExecutable = ((await lstat(staged)).mode & 0o100) !== 0;
    const plain = old?.isFile() ? Number(old.mode & 0o666n) : 0o666 & ~this.#umask;
    const execution = old?.isFile() ? (plain & 0o444) >> 2 : 0o111 & ~this.#umask;
    const group = await this.#groupFor(path, old);
    // Only root, and members of the group, may; the mode comes after, since this can take bits away.
    if (group !== undefined) await lchown(staged, -1, group).catch(() => undefined);
    await chmod(staged, plain | (isExecutable ? execution : 0));
  }

  async #groupFor(path: RawPath, old: BigIntStats | undefined): Promise<number | undefined> {
    if (old) return Number(old.gid);
    const parent = await lstat(this.#host(parents(path).at(-1) ?? ''));
    return parent.mode & 0o2000 ? parent.gid : undefined;
  }

  #host(path: RawPath): Buffer {
    return path === '' ? Buffer.from(this.#topLevel) : hostBytes(this.#topLevel, path);
  }
}

function inodeOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

async function makeDirectory(path: Buffer, mode: number): Promise<void> {
  await mkdir(path);
  await chmod(path, mode);
}

/** What the kernel says when somebody else makes or removes something at the same moment. */
const raceErrors = ['ENOENT', 'EEXIST', 'ENOTDIR', 'ENOTEMPTY', 'EISDIR'];

/** The same error, with the one thing more that the user wants to know. */
function nothingWritten(error: unknown, topLevel: string): unknown {
  const isRace = raceErrors.includes(errnoOf(error) ?? '');
  const known = isRace
    ? new BangerError('busy', `"${topLevel}" has changed meanwhile (${errorText(error)})`)
    : error instanceof BangerError
      ? error
      : explainHostError(error, topLevel);
  if (!known) return error;
  const { code, message, hint } = known;
  return new BangerError(code, `${message}; nothing was written`, { hint, cause: error });
}
