import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import {
  createRepo,
  gitEnvironment,
  makeTempDirectory,
  openRepo,
  snapshot,
  type GitRepo,
} from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
/** Of a history that is longer than what travels by default */
let commits: string[];
let template: ReturnType<typeof makeTempDirectory>;

beforeAll(() => {
  template = makeTempDirectory();
  const repo = createRepo(join(template.path, 'repo'));
  commits = [];
  for (let index = 0; index < 14; index++) {
    repo.write('counted', `${index}\n`);
    repo.write(`only/${index}`, `${index}\n`);
    repo.write('same', 'same\n');
    repo.write('other', 'other\n');
    if (index === 3) {
      repo.write('turns', 'file\n', 0o755);
      symlinkSync('counted', join(repo.path, 'link'));
      repo.write('line\nbreak é', 'odd\n');
    }
    if (index === 9) {
      rmSync(join(repo.path, 'turns'));
      repo.write('turns/into', 'directory\n');
      rmSync(join(repo.path, 'link'));
      repo.write('line\nbreak é', 'odder\n');
    }
    commits.push(repo.commit(String(index)));
  }
});
afterAll(() => template.remove());
beforeEach(() => {
  fixture = createFixture();
  rmSync(fixture.repo.path, { recursive: true });
  copyTree(join(template.path, 'repo'), fixture.repo.path);
  fixture.repo.git('update-index', '-q', '--refresh');
});
afterEach(() => fixture.remove());

function copyTree(from: string, to: string): void {
  cpSync(from, to, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
}

/** A copy of the host's tree, in which git itself makes the branch. */
function switched(...words: string[]): GitRepo {
  const path = join(fixture.directory, 'oracle');
  rmSync(path, { recursive: true, force: true });
  copyTree(fixture.repo.path, path);
  const oracle = openRepo(path);
  oracle.git('switch', '-q', '-c', ...words);
  return oracle;
}

/** What git says of a tree, and its files. */
function view(repo: GitRepo): unknown[] {
  const worktree = Object.entries(snapshot(repo.path))
    .map(([path, hash]) => [relative(repo.path, path), hash, statSync(path).mode & 0o111])
    .filter(([path]) => !String(path).startsWith('.git/'));
  return [
    repo.git('status', '--porcelain=v2', '--branch', '--untracked-files=no'),
    repo.git('diff', '--binary'),
    repo.git('diff', '--cached', '--binary'),
    repo.git('ls-files', '-s'),
    repo.git('log', '--format=%H', '-5'),
    worktree,
  ];
}

function makeDirt(): void {
  const { repo } = fixture;
  repo.write('same', 'staged\n');
  repo.git('add', 'same');
  repo.write('same', 'and changed\n');
  rmSync(join(repo.path, 'other'));
  repo.write('added', 'added\n');
  repo.git('add', 'added');
}

test.each([
  ['HEAD', undefined],
  ['an old commit', 'HEAD~10'],
  ['a tag', 'v4'],
] as const)(
  'a branch from %s is in the guest what git switch -c makes of the tree, changes carried along',
  async (_, from) => {
    const { repo, copy } = fixture;
    repo.git('tag', '-a', 'v4', '-m', 'four', commits[4]!);
    makeDirt();
    const before = repo.snapshot();
    const sent = await fixture.prepare({ guestBranch: { name: 'fix/it', from } });
    expect(repo.snapshot()).toEqual(before);
    const oracle = switched('fix/it', ...(from === undefined ? [] : [from]));
    expect(sent).toMatchObject({ branch: 'fix/it', head: oracle.git('rev-parse', 'HEAD').trim() });
    expect(view(copy)).toEqual(view(oracle));
    copy.git('fsck', '--strict');
    expect(copy.git('for-each-ref', '--format=%(refname)', 'refs/heads').trim()).toBe('refs/heads/fix/it');
    // What is exported is what the guest did, not where it began.
    expect((await fixture.export()).files).toEqual([]);
    copy.write('counted', 'guest\n');
    copy.git('commit', '-qam', 'in the guest');
    copy.write('new', 'new\n');
    expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['counted', 'new']);
  },
);

test('a second prepare goes to the branch, sends what changes there, and goes back', async () => {
  const { repo, copy } = fixture;
  await fixture.prepare();
  const guestBranch = { name: 'fix', from: 'HEAD~10' };
  const there = await fixture.prepare({ guestBranch });
  expect(there.update).toMatchObject({ kept: [], conflicts: [] });
  expect(view(copy)).toEqual(view(switched('fix', 'HEAD~10')));

  copy.write('built.o', 'the guest’s own\n');
  repo.write('same', 'more\n');
  const again = await fixture.prepare({ guestBranch });
  expect(again).toMatchObject({ files: 1, branch: 'fix' });
  expect(readFileSync(join(copy.path, 'same'), 'utf8')).toBe('more\n');

  expect(await fixture.prepare()).toMatchObject({ branch: 'main' });
  expect(copy.git('status', '--porcelain=v2', '--untracked-files=no')).toBe(
    repo.git('status', '--porcelain=v2', '--untracked-files=no'),
  );
  expect(existsSync(join(copy.path, 'built.o'))).toBe(true);
  expect(existsSync(join(copy.path, 'only/13'))).toBe(true);
});

test('commits that the guest made on its branch are not moved away by a prepare of the tree’s own', async () => {
  const { copy } = fixture;
  await fixture.prepare({ guestBranch: { name: 'fix' } });
  copy.write('counted', 'guest\n');
  copy.git('commit', '-qam', 'in the guest');
  await expect(fixture.prepare()).rejects.toThrow('commits');
  expect(copy.git('log', '-1', '--format=%s').trim()).toBe('in the guest');
});

const scenes: Record<string, (repo: GitRepo) => readonly string[]> = {
  'changed files': (repo) => {
    repo.write('counted', 'mine\n');
    repo.write('same', 'mine\n');
    return ['counted'];
  },
  'staged files': (repo) => {
    repo.write('counted', 'mine\n');
    repo.git('add', 'counted');
    return ['counted'];
  },
  'a new file in the way of a directory': (repo) => {
    rmSync(join(repo.path, 'turns'), { recursive: true });
    repo.git('commit', '-qam', 'gone');
    repo.write('turns', 'mine\n');
    repo.git('add', 'turns');
    return ['turns'];
  },
};
test.each(Object.entries(scenes))(
  '%s that differ there are refused by name, as git does',
  async (_, make) => {
    const { repo } = fixture;
    const names = make(repo);
    const from = commits[5]!;
    const git = spawnSync('git', ['switch', '-c', 'oracle', from], {
      cwd: repo.path,
      env: { ...process.env, ...gitEnvironment },
    });
    expect(git.status).not.toBe(0);
    const message = `what you changed is different there: ${names.map((name) => `"${name}"`).join(', ')}`;
    await expect(fixture.prepare({ guestBranch: { name: 'fix', from } })).rejects.toThrow(message);
    await expect(fixture.plan({ guestBranch: { name: 'fix', from } })).rejects.toThrow(message);
    expect(fixture.commands).toEqual([]);
  },
);

test('an untracked file that is asked for and would be overwritten is refused; one that stays here is not in the way', async () => {
  const { repo, copy } = fixture;
  repo.write('link', 'mine\n');
  const guestBranch = { name: 'fix', from: commits[5]! };
  await expect(fixture.prepare({ guestBranch, includeUntracked: true })).rejects.toThrow('"link"');
  await fixture.prepare({ guestBranch });
  expect(readFileSync(join(copy.path, 'link'), 'utf8')).toBe('5\n');
});

test.each([
  [{ name: '-x' }, '"-x" is not a name for a branch'],
  [{ name: 'a..b' }, '"a..b" is not a name for a branch'],
  [{ name: '@{-1}' }, '"@{-1}" is not a name for a branch'],
  [{ name: 'main' }, 'There is a branch "main" here already'],
  [{ name: 'fix', from: 'nothing' }, '"nothing" is not a commit'],
  [{ name: 'fix', from: '--all' }, '"--all" is not a commit'],
  [{ name: 'fix', from: 'HEAD^{tree}' }, '"HEAD^{tree}" is not a commit'],
])('%j is refused', async (guestBranch, message) => {
  await expect(fixture.prepare({ guestBranch })).rejects.toThrow(message);
});

test('in the middle of a merge a branch begins at HEAD only', async () => {
  const { repo, copy } = fixture;
  repo.git('switch', '-q', '-c', 'side', 'HEAD~1');
  repo.write('same', 'side\n');
  repo.commit('side');
  repo.git('switch', '-q', 'main');
  repo.git('merge', '-q', '--no-commit', '--no-ff', 'side');
  await expect(fixture.prepare({ guestBranch: { name: 'fix', from: 'HEAD~3' } })).rejects.toThrow(
    'in the middle of a merge',
  );
  await fixture.prepare({ guestBranch: { name: 'fix' } });
  expect(copy.git('status')).toContain('On branch fix\nAll conflicts fixed but you are still merging.');
});

test('line ends are in the guest as git here would check them out', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitattributes', '*.bat text eol=crlf\n');
  repo.write('x.bat', 'new\r\n');
  const first = repo.commit('crlf');
  repo.write('x.bat', 'newer\r\n');
  chmodSync(join(repo.path, 'same'), 0o755);
  repo.commit('newer');
  await fixture.prepare({ guestBranch: { name: 'fix', from: first } });
  expect(readFileSync(join(copy.path, 'x.bat'), 'latin1')).toBe('new\r\n');
  expect(copy.git('status', '--porcelain')).toBe('');
});

test('other branches, tags and stashes are counted', async () => {
  const { repo } = fixture;
  repo.git('branch', 'one');
  repo.git('branch', 'feature/two');
  repo.git('tag', 'v1');
  for (const text of ['a', 'b']) {
    repo.write('same', text);
    repo.git('stash', '-q');
  }
  const leftBehind = { branches: 2, tags: 1, stashes: 2 };
  expect(await fixture.plan()).toMatchObject({ leftBehind });
  expect(await fixture.prepare()).toMatchObject({ leftBehind });
  // Of a branch of the guest's own, the one that is checked out here is another one.
  expect(await fixture.plan({ guestBranch: { name: 'fix' } })).toMatchObject({ leftBehind: { branches: 3 } });
});
