import { mkdir, open, readdir, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errorText } from '../../../errors.ts';
import type { Exec } from '../../../host/exec.ts';
import { isOutOfMemory } from '../../../host/memory-limit.ts';
import { displayPath, isTreePath, splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import type { GuestWorkspace } from './guest-changes.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import { unreadable } from './guest-changes.ts';
import { mirrorEnvironment } from './mirror.ts';
import { tampered } from './patch-check.ts';

/** A commit of a guest that has a mail, and the files that it changes. */
export interface MailedCommit {
  readonly oid: string;
  readonly paths: readonly RawPath[];
}

/** What is longer nobody compares by eye either. */
const mostCheckedBytes = 64 * 1024 * 1024;
const mostCheckedMails = 1000;
const maxMemoryBytes = 512 * 1024 * 1024;

const notCompared =
  'The mails are too many, or too large, to be compared with the list of commits: look at what they change';

/** Asks a guest which files its commits change, each compared with its first parent as their mails are. */
export async function readMailedPaths(
  workspace: GuestWorkspace,
  commits: readonly { readonly oid: string; readonly parents: readonly string[] }[],
): Promise<MailedCommit[]> {
  const { guest, ensureGit, guestPath, signal } = workspace;
  const options = [
    '--stdin',
    '-r',
    '-z',
    '--root',
    '--name-only',
    '--no-renames',
    '--ignore-submodules=none',
  ];
  const lines = commits.map(({ oid, parents }) => `${[oid, ...parents.slice(0, 1)].join(' ')}\n`);
  const { exit, stdout, stderr } = await guest.run(
    [await ensureGit(), '-C', guestPath, ...guestGitSettings, 'diff-tree', ...options],
    { env: guestGitEnvironment, input: Buffer.from(lines.join('')), signal },
  );
  if (exit.code !== 0) throw unreadable(workspace, stderr);
  const mailed = commits.map(({ oid }) => ({ oid, paths: [] as RawPath[] }));
  let at = -1;
  for (const field of splitRaw(stdout)) {
    if (field === mailed[at + 1]?.oid) at++;
    else if (at < 0) throw unreadable(workspace, '');
    else mailed[at]!.paths.push(field);
  }
  if (at + 1 !== mailed.length) throw unreadable(workspace, '');
  return mailed;
}

/**
 * Has git on this host take a guest's mails apart, as `git am` will: what is one mail to whoever looks at the list could
 * be two to git, and a line of a message the beginning of a patch. Nothing is applied, and no repository is read.
 */
export class MailCheck {
  readonly #exec: Exec;
  readonly #scratch: string;
  readonly #workspace: Pick<GuestWorkspace, 'vmName' | 'signal'>;
  #file: FileHandle | undefined;
  #bytes = 0;

  /** `scratch` is a directory of its own. */
  constructor(exec: Exec, scratch: string, workspace: Pick<GuestWorkspace, 'vmName' | 'signal'>) {
    this.#exec = exec;
    this.#scratch = scratch;
    this.#workspace = workspace;
  }

  async push(piece: Buffer): Promise<void> {
    this.#bytes += piece.length;
    if (this.#bytes > mostCheckedBytes) return;
    this.#file ??= await open(this.#mbox, 'wx', 0o600);
    await this.#file.writeFile(piece);
  }

  /** Throws unless there is one mail of each commit, and it changes these files. Returns what is to be said when that is not known. */
  async end(commits: readonly MailedCommit[]): Promise<string[]> {
    await this.close();
    if (this.#bytes > mostCheckedBytes || commits.length > mostCheckedMails) return [notCompared];
    const mails = this.#bytes === 0 ? [] : await this.#split();
    if (mails.length !== commits.length) {
      throw this.#tampered(`sent ${counted(mails.length, 'mail')} for ${counted(commits.length, 'commit')}`);
    }
    for (const [index, { oid, paths }] of commits.entries()) {
      const name = oid.slice(0, 12);
      const mail = await readFile(mails[index]!);
      if (!mail.subarray(0, oid.length + 6).equals(Buffer.from(`From ${oid} `)))
        throw this.#tampered(`sent the mail of another commit for ${name}`);
      const found = await this.#pathsOf(mail);
      if (!found) return [notCompared];
      const [patched, listed] = [new Set(found), new Set(paths)];
      const other = found.find((path) => !listed.has(path)) ?? paths.find((path) => !patched.has(path));
      if (other !== undefined)
        throw this.#tampered(
          `says that ${name} changes other files than its mail, as "${displayPath(other)}"`,
        );
      const outside = found.find((path) => !isTreePath(path));
      if (outside !== undefined)
        throw this.#tampered(`has a commit ${name} of "${displayPath(outside)}", which is no path in a tree`);
    }
    return [];
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  get #mbox(): string {
    return join(this.#scratch, 'mbox');
  }

  async #split(): Promise<string[]> {
    const directory = join(this.#scratch, 'mails');
    await mkdir(directory);
    await this.#git(['mailsplit', '--keep-cr', '-b', '-d8', `-o${directory}`, '--', this.#mbox]);
    return (await readdir(directory)).sort().map((name) => join(directory, name));
  }

  /** Undefined when it takes too much memory to know. */
  async #pathsOf(mail: Buffer): Promise<RawPath[] | undefined> {
    const [message, patch] = [join(this.#scratch, 'message'), join(this.#scratch, 'patch')];
    try {
      await this.#git(['mailinfo', message, patch], mail);
      if ((await readFile(patch)).length === 0) return [];
      const { stdout } = await this.#git(['apply', '--numstat', '-z', patch]);
      return splitRaw(stdout).map((line) => line.replace(/^(?:\d+|-)\t(?:\d+|-)\t/, ''));
    } catch (error) {
      if (isOutOfMemory(errorText(error))) return undefined;
      if (error instanceof BangerError && error.code === 'command_failed')
        throw this.#tampered('answered with something that is not a mail');
      throw error;
    }
  }

  #git(args: readonly string[], input?: Buffer): ReturnType<Exec> {
    const { signal } = this.#workspace;
    return this.#exec(['git', ...args], {
      cwd: this.#scratch,
      env: { ...mirrorEnvironment(), GIT_CEILING_DIRECTORIES: this.#scratch },
      input,
      signal,
      maxMemoryBytes,
    });
  }

  #tampered(what: string): BangerError {
    return tampered(what, this.#workspace.vmName);
  }
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
