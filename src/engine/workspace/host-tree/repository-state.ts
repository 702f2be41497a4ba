import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../../errors.ts';
import type { Repository } from './repository.ts';

/** What a repository is in the middle of, and what its branch follows. */
export interface RepositoryState {
  /** Files below the git directory that say so */
  readonly files: readonly { readonly path: string; readonly bytes: Buffer }[];
  /** Commits, and trees, that git needs to go on from there */
  readonly tips: readonly string[];
  readonly references: readonly { readonly name: string; readonly oid: string }[];
  /** What cannot travel */
  readonly warnings: readonly string[];
}

const stateFiles = [
  'MERGE_HEAD',
  'MERGE_MODE',
  'MERGE_AUTOSTASH',
  'MERGE_MSG',
  'SQUASH_MSG',
  'AUTO_MERGE',
  'CHERRY_PICK_HEAD',
  'REVERT_HEAD',
  'REBASE_HEAD',
];
const stateDirectories = ['rebase-merge', 'rebase-apply', 'sequencer'];

/** Paths below a git directory that are there while a merge or the like is under way. */
export const underWayPaths = [...stateFiles, ...stateDirectories];

/** The log of HEAD, which says where HEAD was detached. */
export const detachmentFile = 'logs/HEAD';

/** Whether a file below the git directory says what git is in the middle of. */
export function isUnderWayFile(path: string): boolean {
  return stateFiles.includes(path) || stateDirectories.some((name) => path.startsWith(`${name}/`));
}

/** Text for people, and patches: object names in it are no promise that the object is needed. */
const prose = /(?:^|\/)(?:[A-Z]+_MSG|message.*|msg.*|author-script|patch|final-commit|\d{4}|info|next|last)$/;

/** Lists of what is left to do, in which commits may have short names. */
const todo = /(?:^|\/)(?:todo|git-rebase-todo|done)$/;
const picked =
  /^\s*(?:pick|p|revert|edit|e|reword|r|squash|s|fixup|f|merge|m) (?:-[cC] )?([0-9a-f]{4,64})\b/gm;

/** More commits than these would be a history, not a state. */
const maxTips = 100;
const maxStateBytes = 16 * 1024 * 1024;

/**
 * Reads merges, rebases, cherry-picks, reverts and mails under way, so that they can be finished in the guest, and
 * the commit that the branch is compared with.
 */
export async function readRepositoryState(repository: Repository): Promise<RepositoryState> {
  const [underWay, upstream, detached] = await Promise.all([
    readUnderWay(repository),
    readUpstream(repository),
    readDetachment(repository),
  ]);
  const parts = [underWay, upstream, detached];
  return {
    files: parts.flatMap((part) => part.files ?? []),
    tips: [...new Set(parts.flatMap((part) => part.tips ?? []))],
    references: parts.flatMap((part) => part.references ?? []),
    warnings: parts.flatMap((part) => part.warnings ?? []),
  };
}

async function readUnderWay(repository: Repository): Promise<Partial<RepositoryState>> {
  const directory = repository.paths.git;
  const listed = await Promise.all(
    stateDirectories.map(async (name) =>
      (await list(join(directory, name))).map((each) => `${name}/${each}`),
    ),
  );
  const files: { path: string; bytes: Buffer }[] = [];
  for (const path of [...stateFiles, ...listed.flat()]) {
    const bytes = await read(join(directory, path));
    if (bytes) files.push({ path, bytes });
  }
  const isBisecting = (await read(join(directory, 'BISECT_START'))) !== undefined;
  const warnings = isBisecting
    ? ['A bisect is under way; its marks, and the history it needs, stay behind']
    : [];
  if (files.length === 0) return { warnings };

  const references = await rebasedReferences(repository, files);
  const named = await namedObjects(repository, files);
  const tips = await withParents(repository, [...named, ...references.map(({ oid }) => oid)]);
  const bytes = files.reduce((total, file) => total + file.bytes.length, 0);
  if (tips.length <= maxTips && bytes <= maxStateBytes) return { files, tips, references, warnings };
  const what = [...new Set(files.map(({ path }) => path.split('/')[0]))].join(', ');
  return {
    warnings: [...warnings, `What git is in the middle of is too large and stays behind: ${what} in .git`],
  };
}

/**
 * References that a rebase under way moves when it is finished, and sees to it that they are as it left them: its
 * branch, others that are to move with it, and labels of commits that it has made.
 */
async function rebasedReferences(
  { git }: Repository,
  files: NonNullable<RepositoryState['files']>,
): Promise<RepositoryState['references']> {
  const moved = files.filter(({ path }) => /^rebase-(?:merge|apply)\/(?:head-name|update-refs)$/.test(path));
  if (moved.length === 0) return [];
  const lines = moved.flatMap(({ bytes }) => bytes.toString('utf8').split('\n'));
  const names = lines.filter((line) => /^refs\/heads\/[^*?[\\]+$/.test(line));
  const format = '--format=%(objectname) %(refname)';
  const listed = await git(['for-each-ref', format, 'refs/rewritten', ...names]);
  return listed.stdout
    .toString('utf8')
    .split('\n')
    .flatMap((line) => {
      const [, oid, name] = /^([0-9a-f]+) (.+)$/.exec(line) ?? [];
      return oid !== undefined && name !== undefined ? [{ name, oid }] : [];
    });
}

/** The objects that files of a state name and that are there; git checks them as it goes on. */
async function namedObjects(
  { git }: Repository,
  files: NonNullable<RepositoryState['files']>,
): Promise<string[]> {
  const names = new Set<string>();
  for (const { path, bytes } of files) {
    if (prose.test(path)) continue;
    for (const [name] of bytes.toString('latin1').matchAll(/\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b/g))
      names.add(name);
    if (!todo.test(path)) continue;
    for (const [, name] of bytes.toString('latin1').matchAll(picked)) names.add(name!);
  }
  if (names.size === 0) return [];
  const input = Buffer.from([...names].map((name) => `${name}\n`).join(''));
  const checked = (await git(['cat-file', '--batch-check=%(objectname) %(objecttype)'], { input })).stdout;
  return [...checked.toString('latin1').matchAll(/^([0-9a-f]+) (?:commit|tree)$/gm)].map(
    (match) => match[1]!,
  );
}

/** A commit that is to be picked or reverted needs the one before it. */
async function withParents({ git }: Repository, oids: readonly string[]): Promise<string[]> {
  if (oids.length === 0) return [];
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const listed = (await git(['rev-list', '--no-walk=unsorted', '--parents', '--stdin'], { input })).stdout;
  return [...new Set([...oids, ...listed.toString('latin1').split(/\s+/).filter(Boolean)])];
}

/**
 * The branch's upstream, with all commits between the two and those they meet in, so that the guest counts how far
 * they are apart as the host does.
 */
async function readUpstream({ git, head, branch, config }: Repository): Promise<Partial<RepositoryState>> {
  if (branch === undefined || branch.startsWith('refs/') || !config.has(`branch.${branch}.merge`)) return {};
  const format = '--format=%(upstream)';
  const name = lines((await git(['for-each-ref', format, `refs/heads/${branch}`])).stdout)[0];
  if (name === undefined) return {};
  const found = await git(['rev-parse', '-q', '--verify', `${name}^{commit}`], { okExitCodes: [1, 128] });
  const oid = lines(found.stdout)[0];
  if (oid === undefined) return {};
  const references = [{ name, oid }];
  if (head === undefined) return { references, tips: [oid] };
  const range = ['rev-list', '--boundary', `--max-count=${maxTips + 1}`, `${head}...${oid}`];
  const between = lines((await git(range)).stdout).map((line) => line.replace(/^-/, ''));
  if (between.length <= maxTips) return { references, tips: [oid, ...between] };
  const short = name.replace(/^refs\/(?:heads|remotes)\//, '');
  return { warnings: [`"${short}", which the branch follows, is too far away and stays behind`] };
}

/** The line of the log of HEAD that says where a detached HEAD was detached, which `git status` reads. */
async function readDetachment({
  git,
  branch,
  head,
  objectFormat,
}: Repository): Promise<Partial<RepositoryState>> {
  if (branch !== undefined || head === undefined) return {};
  const log = await git(['reflog', 'show', '--format=%H %gs', '-n', '200', 'HEAD'], { okExitCodes: [128] });
  const match = /^([0-9a-f]+) (checkout: moving from .*)$/m.exec(log.stdout.toString('latin1'));
  if (!match) return {};
  const [, oid, words] = match;
  const nothing = '0'.repeat(objectFormat === 'sha256' ? 64 : 40);
  // Git takes a line without a time for a broken one.
  const line = `${nothing} ${oid} banger <banger@localhost> 1 +0000\t${words}\n`;
  return { files: [{ path: detachmentFile, bytes: Buffer.from(line, 'latin1') }], tips: [oid!] };
}

function lines(output: Buffer): string[] {
  return output.toString('utf8').split('\n').filter(Boolean);
}

async function list(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

async function read(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
