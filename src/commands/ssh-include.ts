import { constants, type Stats } from 'node:fs';
import { access, chown, lstat, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError, errnoOf, whyNotWritten } from '../errors.ts';
import { sshIncludeMark } from '../host/doctor/names.ts';

const firstLine = `${sshIncludeMark} (removed by: banger ssh-config --uninstall)`;
const madeWord = ', in a file that banger made';
const lastLine = '# <<< banger';

/** A configuration of ssh, as text, and what `--install` and `--uninstall` make of it. */
export interface Included {
  readonly text: string;
  /** False when it was so already */
  readonly isChanged: boolean;
}

/** Puts our lines before all others: what ssh finds first is what holds. A block that is there names this file, too. */
export function withInclude(text: string | undefined, include: string): Included {
  const block = blockOf(include, text === undefined);
  const found = findBlock(text ?? '');
  if (!found) return { text: `${block}${text ?? ''}`, isChanged: true };
  const isOurs = found.lines.some((line) => line.trim() === includeLine(include));
  if (isOurs) return { text: text!, isChanged: false };
  const isMade = found.lines[0]!.includes(madeWord);
  return { text: `${found.before}${blockOf(include, isMade)}${found.after}`, isChanged: true };
}

/** Takes our lines out again, to the byte. No text: the file was ours, and has nothing else in it. */
export function withoutInclude(text: string): {
  readonly text: string | undefined;
  readonly isChanged: boolean;
} {
  const found = findBlock(text);
  if (!found) return { text, isChanged: false };
  const rest = found.before + found.after;
  return { text: rest === '' && found.lines[0]!.includes(madeWord) ? undefined : rest, isChanged: true };
}

/** As bytes, like the rest of the file. Patterns are looked for in it. */
export function includeLine(include: string): string {
  const pattern = include.replaceAll(/[*?[]/g, '\\$&');
  return `Include "${Buffer.from(pattern).toString('latin1')}"`;
}

function blockOf(include: string, isNew: boolean): string {
  return `${firstLine}${isNew ? madeWord : ''}\n${includeLine(include)}\n${lastLine}\n`;
}

interface Block {
  readonly before: string;
  readonly lines: readonly string[];
  readonly after: string;
}

function findBlock(text: string): Block | undefined {
  const lines = text.split(/(?<=\n)/);
  const from = lines.findIndex((line) => line.startsWith(firstLine));
  if (from < 0) return undefined;
  const length = lines.slice(from).findIndex((line) => line.trimEnd() === lastLine) + 1;
  // More than ours, or an end that is missing: whatever it is, it is not what we wrote.
  if (length < 1 || length > 4) {
    throw new BangerError(
      'invalid_state',
      `The lines of banger that begin in line ${from + 1} have been changed`,
      {
        hint: `Take them out by hand, from "${firstLine.slice(0, 12)}" on`,
      },
    );
  }
  return {
    before: lines.slice(0, from).join(''),
    lines: lines.slice(from, from + length),
    after: lines.slice(from + length).join(''),
  };
}

/** Reads the user's file; undefined when there is none. */
export async function readSshConfig(path: string): Promise<string | undefined> {
  try {
    // Bytes as they are: what is not UTF-8 comes back as it was.
    return await readFile(path, 'latin1');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Replaces the user's file by this text, or removes it: at once, keeping mode and owner, and where it really is when
 * its place is a symlink. Throws `busy` when somebody else has changed it since `old` was read.
 */
export async function writeSshConfig(
  path: string,
  change: { readonly old: string | undefined; readonly text: string | undefined },
): Promise<void> {
  try {
    const target = await targetOf(path);
    if ((await readSshConfig(target)) !== change.old) {
      throw new BangerError('busy', `"${path}" has just been changed by another program`, {
        hint: 'Try again',
      });
    }
    if (change.text === undefined) await rm(target);
    else await replace(target, change.text);
  } catch (error) {
    if (error instanceof BangerError) throw error;
    const why = whyNotWritten(error);
    if (why === undefined) throw error;
    throw new BangerError('invalid_argument', `"${path}" cannot be written: ${why}`, {
      hint: 'Put the line that "banger ssh-config --json" has as "include" at its top yourself',
      cause: error,
    });
  }
}

/** The file itself, also when a symlink leads to one that is not there yet. */
async function targetOf(path: string): Promise<string> {
  const found = await lstat(path).catch(() => undefined);
  if (!found?.isSymbolicLink()) return path;
  try {
    return await realpath(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    throw new BangerError('invalid_state', `"${path}" is a symlink that leads to nothing`, {
      hint: `See where to: readlink ${path}`,
      cause: error,
    });
  }
}

async function replace(target: string, text: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  const old: Stats | undefined = await stat(target).catch(() => undefined);
  // A file that its owner has made read-only is one that nobody shall change.
  if (old) await access(target, constants.W_OK);
  const temporary = `${target}.${process.pid}.banger`;
  const file = await open(temporary, 'wx', old ? old.mode & 0o7777 : 0o600);
  try {
    try {
      await file.chmod(old ? old.mode & 0o7777 : 0o600);
      await file.writeFile(text, 'latin1');
      await file.sync();
    } finally {
      await file.close();
    }
    if (old && process.getuid!() === 0) await chown(temporary, old.uid, old.gid);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
