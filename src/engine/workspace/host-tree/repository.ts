import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import type { Exec } from '../../../host/exec.ts';
import {
  generalIdentity,
  parseScopedConfig,
  withoutFilters,
  withoutGeneralIdentity,
  type GitConfig,
} from './git-config.ts';
import { shellWord } from '../../../host/shell-quote.ts';
import { hostGit, type HostGit } from './host-git.ts';
import { refuseReferenceStorage, unknownExtension } from './unknown-formats.ts';

/** A git repository on the host that a workspace can be made from. */
export interface Repository {
  /** Top of the working tree, symlinks resolved */
  readonly topLevel: string;
  /** `sha1` or `sha256` */
  readonly objectFormat: string;
  /** Commit at HEAD, absent on an unborn branch */
  readonly head?: string;
  /** Absent on a detached HEAD */
  readonly branch?: string;
  readonly config: GitConfig;
  /** Files of the repository, wherever a worktree keeps them; any of them may be missing */
  readonly paths: {
    /** Git directory of this working tree */
    readonly git: string;
    readonly index: string;
    readonly objects: string;
    readonly shallow: string;
    readonly exclude: string;
    readonly attributes: string;
    readonly sparseCheckout: string;
  };
  /** Git in the top directory, filters switched off */
  readonly git: HostGit;
}

const repositoryFiles = [
  'index',
  'objects',
  'shallow',
  'info/exclude',
  'info/attributes',
  'info/sparse-checkout',
];

/**
 * Finds the repository a path belongs to, reading only.
 *
 * Refuses what cannot become a workspace: no repository, a bare one, one that git does not trust.
 */
export async function findRepository(exec: Exec, path: string, signal: AbortSignal): Promise<Repository> {
  await checkDirectory(path);
  // What git says is relative to where it really is.
  const directory = await realpath(path);
  const gitThere = hostGit({ exec, directory, signal });
  const [{ topLevel, facts, head, branch }, settings] = await Promise.all([
    findTopLevel(gitThere, path),
    // What is no repository, or is not trusted, is refused beside this.
    gitThere(['config', '--list', '--show-scope', '-z'], { okExitCodes: [128] }),
  ]);
  const scoped = parseScopedConfig(settings.stdout);
  refuseReferenceStorage(scoped.config, path);
  const identity = scoped.general ?? (await generalIdentity(hostGit({ exec, directory: '/', signal })));
  // Guests know it as their own user's, for all of their repositories.
  const config = withoutGeneralIdentity(scoped.config, identity);
  const git = hostGit({ exec, directory: topLevel, signal, settings: withoutFilters(config) });

  const [objectFormat, ...paths] = facts;
  const [gitDirectory, index, objects, shallow, exclude, attributes, sparseCheckout] = paths.map((each) =>
    resolve(directory, each),
  );
  return {
    topLevel,
    objectFormat: objectFormat!,
    head,
    branch,
    config,
    paths: {
      git: gitDirectory!,
      index: index!,
      objects: objects!,
      shallow: shallow!,
      exclude: exclude!,
      attributes: attributes!,
      sparseCheckout: sparseCheckout!,
    },
    git,
  };
}

/** Where a repository is: a branch unless HEAD is detached, a commit unless that branch is unborn. */
export type Head = Pick<Repository, 'head' | 'branch'>;

/** What to ask `rev-parse` for it; it fails as long as there is no commit. */
const headWords = ['HEAD^{commit}', '--symbolic-full-name', 'HEAD'];

/** Says nothing where there is no repository. */
export async function readHead(git: HostGit): Promise<Head> {
  const { stdout } = await git(['rev-parse', ...headWords], { okExitCodes: [128] });
  const said = splitHead(`\n${stdout.toString('latin1')}`);
  return said?.head ?? readUnbornHead(git);
}

async function readUnbornHead(git: HostGit): Promise<Head> {
  const [symbolic, commit] = await Promise.all([
    git(['symbolic-ref', '-q', 'HEAD'], { okExitCodes: [1, 128] }),
    git(['rev-parse', '-q', '--verify', 'HEAD^{commit}'], { okExitCodes: [1, 128] }),
  ]);
  const reference = firstLine(symbolic.stdout);
  return { head: firstLine(commit.stdout), branch: branchOf(reference) };
}

function branchOf(reference: string | undefined): string | undefined {
  return reference?.replace(/^refs\/heads\//, '');
}

async function checkDirectory(path: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EACCES')
      throw new BangerError('invalid_argument', `"${path}" cannot be read`, { cause: error });
    if (errno !== 'ENOENT' && errno !== 'ENOTDIR') throw error;
    throw new BangerError('not_found', `There is no directory "${path}"`, { cause: error });
  }
  throw new BangerError('invalid_argument', `"${path}" is not a directory`, {
    hint: 'Give the directory of a git working tree',
  });
}

/** Takes the last two lines of what git was asked for; undefined when they are something else. */
function splitHead(text: string): { readonly head: Head; readonly rest: string } | undefined {
  const [, rest, oid, name] = /^([^]*\n)([0-9a-f]{40,64})\n(HEAD|refs\/.+)\n$/.exec(text) ?? [];
  if (rest === undefined) return undefined;
  const reference = Buffer.from(name!, 'latin1').toString('utf8');
  return { head: { head: oid!, branch: name === 'HEAD' ? undefined : branchOf(reference) }, rest };
}

/** Where the top of the working tree is, and what else git says of the repository, in one go. */
async function findTopLevel(
  git: HostGit,
  path: string,
): Promise<Head & { readonly topLevel: string; readonly facts: readonly string[] }> {
  const asked = ['--is-bare-repository', '--is-inside-work-tree', '--show-object-format'];
  const files = repositoryFiles.flatMap((name) => ['--git-path', name]);
  const { exitCode, stdout, stderr } = await git(
    ['rev-parse', ...asked, '--absolute-git-dir', ...files, '--show-toplevel', ...headWords],
    { okExitCodes: [128] },
  );
  // A byte is a character here: the last of the lines may be no UTF-8.
  const text = stdout.toString('latin1');
  const split = splitHead(text);
  // Git repeats what it does not find, and goes on to the next word where a file is called so.
  const unborn = /^([^]*\n)HEAD\^\{commit\}\n(?:--symbolic-full-name\n)?$/.exec(text)?.[1];
  const lines = (split?.rest ?? unborn ?? text).split('\n');
  const [isBare, isInside, ...facts] = lines.splice(0, asked.length + 1 + repositoryFiles.length);
  if (isInside === undefined || isInside === '') throw refusal(stderr, path);
  if (isInside !== 'true') {
    const what = isBare === 'true' ? 'is a bare repository' : 'is inside a .git directory';
    throw new BangerError('invalid_argument', `"${path}" ${what} and has no working tree`, {
      hint:
        isBare === 'true'
          ? `Make a working tree with: git clone ${path}`
          : 'Give the directory that holds .git',
    });
  }
  if (exitCode !== 0 && unborn === undefined) throw refusal(stderr, path);
  const output = Buffer.from(lines.join('\n'), 'latin1');
  const topLevel = output.subarray(0, -1).toString('utf8');
  if (!topLevel.includes('\n') && Buffer.from(`${topLevel}\n`).equals(output)) {
    const head = split?.head ?? (await readUnbornHead(git));
    return { topLevel, ...head, facts: facts.map((each) => Buffer.from(each, 'latin1').toString('utf8')) };
  }
  throw new BangerError('invalid_argument', `The path of "${path}" has a line break or is not UTF-8`, {
    hint: 'Move the working tree to a path without them',
  });
}

/** Git says best itself why it does not trust a repository, and how to change that. */
function refusal(stderr: string, path: string): BangerError {
  const words = stderr.trim().replace(/^fatal: /, '');
  if (/not a git repository/.test(words)) {
    return new BangerError('invalid_argument', `"${path}" is not in a git repository`, {
      hint: `Make it one with: git init ${shellWord(path)}`,
    });
  }
  const unknown = unknownExtension(words, path);
  if (unknown) return unknown;
  const [what, ...advice] = words.split('\n');
  const hint = advice.map((line) => line.trim()).filter((line) => line !== '');
  return new BangerError('invalid_argument', `git refuses "${path}": ${what}`, {
    hint: hint.length > 0 ? hint.join(' ') : undefined,
  });
}

function firstLine(output: Buffer): string | undefined {
  return output.toString('utf8').split('\n')[0] || undefined;
}
