import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import type { GitRepo } from '../../support/git-repo.ts';

/** What git says of a repository: in words, to programs, and about each entry of its index. */
export function says(repo: GitRepo): Record<string, string> {
  const commands = {
    status: ['status', '--porcelain=v2', '-z', '--branch', '--untracked-files=no'],
    words: ['status', '--untracked-files=no'],
    diff: ['diff'],
    staged: ['diff', '--cached'],
    index: ['ls-files', '-s', '-v', '-z'],
  };
  const said = Object.entries(commands).map(
    ([name, args]) => [name, outcome(() => repo.git(...args))] as const,
  );
  // Only told when the index is not sparse itself, which is how this host stores it.
  return Object.fromEntries(
    said.map(([name, text]) => [name, text.replace(/ with \d+% of tracked files present/, '')]),
  );
}

function outcome(run: () => string): string {
  try {
    return run();
  } catch (error) {
    return `failed: ${(error as { stderr?: string }).stderr ?? String(error)}`.replace(/\/\S*/g, 'PATH');
  }
}

/** Mode and content of each file that git tracks and that is there. */
export function files(repo: GitRepo): Record<string, string> {
  const paths = new Set(repo.git('ls-files', '-z').split('\0').filter(Boolean));
  const found: Record<string, string> = {};
  for (const path of paths) {
    const file = Buffer.concat([Buffer.from(`${repo.path}/`), Buffer.from(path, 'latin1')]);
    const stats = outcomeOf(() => lstatSync(file));
    if (stats?.isSymbolicLink()) found[path] = `-> ${readlinkSync(file)}`;
    if (stats?.isFile()) found[path] = `${(stats.mode & 0o777).toString(8)} ${readFileSync(file, 'latin1')}`;
  }
  return found;
}

function outcomeOf<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
