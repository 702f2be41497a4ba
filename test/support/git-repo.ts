import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A real git repository in a temp directory, unaware of the configuration of whoever runs the tests. */
export interface GitRepo {
  readonly path: string;
  /** Runs git in it and returns stdout */
  git(...args: string[]): string;
  /** Writes a file, making its directories */
  write(path: string, content: string | Buffer, mode?: number): void;
  /** Stages everything and commits it */
  commit(message: string): string;
  /** Name and hash of every file under its git directory */
  snapshot(): Record<string, string>;
}

/** A temp directory, with symlinks resolved as git reports paths. */
export function makeTempDirectory(): { readonly path: string; remove(): void } {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'banger-test-')));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export function createRepo(path: string): GitRepo {
  mkdirSync(path, { recursive: true });
  runGit(path, ['init', '-q', '-b', 'main']);
  appendFileSync(join(gitDirectory(path), 'config'), committer);
  return openRepo(path);
}

/** `.git`, or what that leads to where it is a file. */
function gitDirectory(path: string): string {
  const dotGit = join(path, '.git');
  return statSync(dotGit).isDirectory() ? dotGit : readFileSync(dotGit, 'utf8').replace(/^gitdir: |\n$/g, '');
}

const committer = '[user]\n\tname = Ada \\"the\\" Tester\n\temail = ada@example.com\n';

/** The commit of the branch that is checked out, of which a file tells once one was made; else undefined. */
function branchHead(path: string): string | undefined {
  try {
    const [, ref] = /^ref: (.*)\n$/.exec(readFileSync(join(path, '.git/HEAD'), 'utf8'))!;
    return readFileSync(join(path, '.git', ref!), 'utf8').trim();
  } catch {
    return undefined; // A HEAD that is detached, or a worktree.
  }
}

export function openRepo(path: string): GitRepo {
  const git = (...args: string[]): string => runGit(path, args);
  return {
    path,
    git,
    write(name, content, mode) {
      const file = join(path, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, content);
      if (mode !== undefined) chmodSync(file, mode);
    },
    commit(message) {
      git('add', '-A');
      git('-c', 'maintenance.auto=false', 'commit', '-q', '-m', message);
      return branchHead(path) ?? git('rev-parse', 'HEAD').trim();
    },
    snapshot: () => snapshot(join(path, '.git')),
  };
}

/** Git's own environment for tests: no user or system configuration. */
export const gitEnvironment = {
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  LC_ALL: 'C',
};

function runGit(cwd: string, args: readonly string[]): string {
  return execFileSync('git', args, {
    cwd,
    env: { PATH: process.env['PATH'], ...gitEnvironment },
    encoding: 'latin1',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 * 1024 * 1024,
  });
}

/** Name and hash of every file below a directory. */
export function snapshot(directory: string): Record<string, string> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true });
  return Object.fromEntries(
    files
      .filter((file) => file.isFile())
      .map((file) => join(file.parentPath, file.name))
      .sort()
      .map((file) => [file, createHash('sha1').update(readFileSync(file)).digest('hex')]),
  );
}

/** Names, kinds, modes and contents of all that is below a directory, a repository included. */
export function wholeTree(path: string): string {
  const list = 'find . -printf "%y %m %p %l\\n" | sort; find . -type f | sort | xargs -d "\\n" sha1sum';
  return execFileSync('bash', ['-c', list], { cwd: path, encoding: 'utf8' });
}

/** What git says of a tree, and what is in it. */
export function viewOf(repo: GitRepo): string[] {
  return [
    repo.git('status', '--porcelain=v2', '--branch', '--untracked-files=no'),
    repo.git('diff', '--binary'),
    repo.git('diff', '--cached', '--binary'),
    repo.git('ls-files', '-s', '-v'),
    repo.git('log', '--format=%H', '-3'),
  ];
}
