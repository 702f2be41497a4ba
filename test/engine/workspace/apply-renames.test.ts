import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createRepo, gitEnvironment, openRepo, type GitRepo } from '../../support/git-repo.ts';
import { lines } from './changed-tree.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const move = ({ path }: GitRepo, from: string, to: string): void =>
  renameSync(join(path, from), join(path, to));

/** Unlike that of any other name. */
const text = (name: string, last = 'last'): string => {
  const all = Array.from({ length: 20 }, (_, index) => `${name} ${index} ${name}`);
  return `${all.join('\n')}\n${name} ${last}\n`;
};

interface Clash {
  readonly guest: (copy: GitRepo, path: string) => void;
  readonly host: (repo: GitRepo, path: string) => void;
  /** What is told of the files */
  readonly told: readonly string[];
  /** What git tells */
  readonly kind: string;
}

/** By the name of a file in `clash`. */
const clashes: ReadonlyMap<string, Clash> = new Map<string, Clash>([
  [
    'content',
    {
      guest: (copy, path) => {
        move(copy, path, `${path}-new`);
        copy.write(`${path}-new`, text('content', 'guest'));
      },
      host: (repo, path) => repo.write(path, text('content', 'host')),
      told: ['conflict content clash/content-new', 'applied clash/content'],
      kind: 'CONFLICT (content): Merge conflict in clash/content-new',
    },
  ],
  [
    'deleted-here',
    {
      guest: (copy, path) => move(copy, path, `${path}-new`),
      host: (repo, path) => rmSync(join(repo.path, path)),
      told: ['conflict rename/delete clash/deleted-here-new', 'present clash/deleted-here'],
      kind: 'CONFLICT (rename/delete): clash/deleted-here',
    },
  ],
  [
    'deleted-there',
    {
      guest: (copy, path) => rmSync(join(copy.path, path)),
      host: (repo, path) => move(repo, path, `${path}-new`),
      told: ['conflict rename/delete clash/deleted-there'],
      kind: 'CONFLICT (rename/delete): clash/deleted-there',
    },
  ],
  [
    'two-places',
    {
      guest: (copy, path) => move(copy, path, `${path}-one`),
      host: (repo, path) => move(repo, path, `${path}-two`),
      told: ['present clash/two-places', 'conflict rename/rename clash/two-places-one'],
      kind: 'CONFLICT (rename/rename): clash/two-places',
    },
  ],
  [
    'taken',
    {
      guest: (copy, path) => move(copy, path, `${path}-new`),
      host: (repo, path) => {
        repo.write(path, text('taken', 'host'));
        repo.write(`${path}-new`, 'mine\n');
      },
      told: ['conflict add/add clash/taken-new', 'conflict modify/delete clash/taken'],
      kind: 'clash/taken-new',
    },
  ],
  [
    'below-file',
    {
      guest: (copy, path) => {
        mkdirSync(join(copy.path, 'place'));
        move(copy, path, 'place/inner');
      },
      host: (repo) => repo.write('place', 'a file\n'),
      told: ['conflict modify/delete clash/below-file', 'conflict file/directory place/inner'],
      kind: 'CONFLICT (file/directory)',
    },
  ],
]);

let fixture: Fixture;
let sent: string;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  repo.write('old', lines());
  repo.write('dir/deep', lines([1, 'deep']));
  repo.write('odd\nname', lines([1, 'odd']));
  repo.write('other', 'nothing like it\n');
  for (const name of clashes.keys()) repo.write(`clash/${name}`, text(name));
  sent = repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const told = ({ files }: Awaited<ReturnType<Fixture['apply']>>): unknown[] =>
  files.map(({ path, movedTo, outcome, conflict }) =>
    [outcome, conflict, path, movedTo].filter((each) => each !== undefined).join(' '),
  );

/** Files of a working tree with what is in them. */
function filesOf({ path }: GitRepo): Record<string, string> {
  const names = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(path, join(entry.parentPath, entry.name)))
    .filter((name) => !name.startsWith('.git/'));
  return Object.fromEntries(names.toSorted().map((name) => [name, readFileSync(join(path, name), 'utf8')]));
}

/** What git makes of both sides when each commits and they are merged. */
function mergedByGit(): { readonly files: Record<string, string>; readonly said: string } {
  const judge = createRepo(join(fixture.directory, 'judge'));
  const commitAll = (from: GitRepo): void => {
    for (const name of readdirSync(judge.path))
      if (name !== '.git') rmSync(join(judge.path, name), { recursive: true });
    cpSync(from.path, judge.path, { recursive: true, filter: (path) => !/\/\.git$/.test(path) });
    judge.git('add', '-A');
    judge.git('commit', '-q', '--allow-empty', '-m', 'all');
  };
  const first = openRepo(join(fixture.directory, 'sent'));
  fixture.repo.git('worktree', 'add', '-q', '--detach', first.path, sent);
  commitAll(first);
  judge.git('switch', '-q', '-c', 'guest');
  commitAll(fixture.copy);
  judge.git('switch', '-q', 'main');
  commitAll(fixture.repo);
  const merged = spawnSync('git', ['merge', '-q', '-m', 'merged', 'guest'], {
    cwd: judge.path,
    env: { PATH: process.env['PATH'], ...gitEnvironment },
    encoding: 'utf8',
  });
  return { files: filesOf(judge), said: merged.stdout + merged.stderr };
}

test('files that the guest moved take along what changed here, as when git merges', async () => {
  const { repo, copy } = fixture;
  copy.git('mv', 'old', 'new');
  copy.write('new', lines([20, 'guest']));
  copy.git('commit', '-qam', 'moved');
  mkdirSync(join(copy.path, 'far'));
  move(copy, 'dir/deep', 'far/deeper');
  move(copy, 'odd\nname', 'odd\tname');
  chmodSync(join(copy.path, 'odd\tname'), 0o755);
  repo.write('old', lines([3, 'host']));
  repo.write('dir/deep', lines([1, 'deep'], [2, 'host']));
  repo.write('odd\nname', lines([1, 'odd'], [9, 'host']));
  const { files } = mergedByGit();

  const result = await fixture.apply();
  expect(told(result)).toEqual([
    'applied dir/deep',
    'merged far/deeper',
    'merged new',
    'merged odd\tname',
    'applied odd\nname',
    'applied old',
  ]);
  expect(filesOf(repo)).toEqual(files);
  expect(files['new']).toBe(lines([3, 'host'], [20, 'guest']));
  expect(statSync(join(repo.path, 'odd\tname')).mode & 0o111).not.toBe(0);
  // Once more: it is all there, the host's changes with it.
  expect(new Set((await fixture.apply()).files.map(({ outcome }) => outcome))).toEqual(new Set(['present']));
  expect(filesOf(repo)).toEqual(files);
});

test('what the guest changed goes into files that were moved here', async () => {
  const { repo, copy } = fixture;
  copy.write('old', lines([20, 'guest']));
  copy.write('dir/deep', lines([1, 'deep'], [10, 'guest']));
  repo.git('mv', 'old', 'moved');
  repo.write('moved', lines([3, 'host']));
  repo.commit('moved');
  mkdirSync(join(repo.path, 'far'));
  // Nobody has told git of it.
  move(repo, 'dir/deep', 'far/deep');
  const { files } = mergedByGit();
  const result = await fixture.apply();
  expect(told(result)).toEqual(['merged dir/deep far/deep', 'merged old moved']);
  expect(filesOf(repo)).toEqual(files);
  expect(files['moved']).toBe(lines([3, 'host'], [20, 'guest']));
});

test('files that both moved to one place are one', async () => {
  const { repo, copy } = fixture;
  move(copy, 'old', 'new');
  copy.write('new', lines([20, 'guest']));
  move(repo, 'old', 'new');
  repo.write('new', lines([3, 'host']));
  const { files } = mergedByGit();
  expect(told(await fixture.apply())).toEqual(['merged new', 'present old']);
  expect(filesOf(repo)).toEqual(files);
});

test('a new file of the guest in a directory that was moved here is a conflict of places, as for git', async () => {
  const { repo, copy } = fixture;
  move(repo, 'dir', 'far');
  copy.write('dir/new', 'new\n');
  const { files, said } = mergedByGit();
  expect(said).toContain('CONFLICT (file location): dir/new');
  const result = await fixture.apply();
  expect(told(result)).toEqual(['conflict file location dir/new far/new']);
  expect(said).toContain(result.files[0]!.reason!.replace(/^.*(?=suggesting)/, ''));
  await fixture.apply({ markers: true });
  expect(filesOf(repo)).toEqual(files);
  // Taken over, it is no conflict any more.
  repo.git('add', 'far/new');
  expect(told(await fixture.apply())).toEqual(['present dir/new']);
  repo.git('rm', '-q', '--cached', 'far/new');
  // Or as the user's git is set.
  rmSync(join(repo.path, 'far/new'));
  repo.git('config', 'merge.directoryRenames', 'false');
  expect(told(await fixture.apply())).toEqual(['applied dir/new']);
});

test('what cannot be followed is a conflict, as for git, and nothing of the host is lost with markers', async () => {
  const { repo, copy } = fixture;
  for (const [name, { guest, host }] of clashes) {
    guest(copy, `clash/${name}`);
    host(repo, `clash/${name}`);
  }
  copy.write('other', 'changed\n');
  const before = filesOf(repo);
  const { said } = mergedByGit();
  for (const { kind } of clashes.values()) expect(said).toContain(kind);
  const result = await fixture.apply();
  const expected = [...clashes.values()].flatMap((clash) => clash.told);
  expect(told(result).toSorted()).toEqual([...expected, 'applied other'].toSorted());
  expect(filesOf(repo)).toEqual(before);

  await fixture.apply({ markers: true });
  const now = filesOf(repo);
  expect(now['other']).toBe('changed\n');
  // Under one name or another.
  const all = Object.values(now).join('');
  for (const name of clashes.keys())
    if (before[`clash/${name}`]?.includes('host')) expect(all).toContain(`${name} host\n`);
  expect(now['clash/content-new']).toContain('<<<<<<< this tree\ncontent host\n=======\ncontent guest\n');
});

test('files that are alike by chance, or have nothing in them, are not taken for moved ones', async () => {
  const { repo, copy } = fixture;
  rmSync(join(copy.path, 'other'));
  copy.write('unlike', 'something else entirely\n');
  copy.write('empty', '');
  repo.write('other', 'changed here\n');
  expect(told(await fixture.apply())).toEqual([
    'applied empty',
    'conflict modify/delete other',
    'applied unlike',
  ]);
});
