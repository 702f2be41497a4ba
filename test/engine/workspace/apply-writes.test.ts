import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BangerError } from '../../../src/errors.ts';
import type { Failpoints, Failure } from '../../../src/engine/failpoints.ts';
import type { Operation } from '../../../src/engine/operations.ts';
import { pointsOf, runWith } from '../../support/vm-world.ts';
import { createRepo, openRepo, wholeTree } from '../../support/git-repo.ts';
import { changeAll, fill } from './changed-tree.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

const kind = 'workspace.apply';
/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

const apply = (operation: Operation) => fixture.apply({ operation });

/** In the order in which they are: those that go, files, symlinks. */
const replaced = [
  ...['becomes-dir', 'becomes-file/inner', 'gone/deep/file'],
  ...['becomes-dir/inner', 'becomes-file', 'edited', 'new/deep/file', 'script'],
  ...['link', 'to-link'],
].map((path) => `replaced ${path}`);
const points = [
  'Reading changes:before',
  'Reading working tree:before',
  'Fetching changes:before',
  'Merging changes:before',
  'Writing files:before',
  ...replaced,
  'files written',
].map((name) => `${kind}/${name}`);

/** Each is a whole apply, so that not every failure is tried at every point. */
const failures: readonly (readonly [point: string, failure: Failure])[] = [
  ['Merging changes:before', 'error'],
  ['Fetching changes:before', 'hang'],
  ['Writing files:before', 'eacces'],
  [replaced[0]!, 'hang'],
  [replaced[2]!, 'enospc'],
  [replaced[5]!, 'eacces'],
  [replaced[7]!, 'timeout'],
  [replaced[8]!, 'hang'],
  [replaced[9]!, 'enospc'],
];

test('whatever fails at whatever point, and when it is cancelled there: the tree is as it was; asking again applies it', async () => {
  const { repo, copy } = fixture;
  fill(repo);
  await fixture.prepare();
  changeAll(copy);
  // What the user has staged, and files that git does not know, are there to be lost.
  repo.write('staged', 'staged\n');
  repo.git('add', 'staged');
  repo.write('untracked', 'untracked\n');
  const before = wholeTree(repo.path);
  const index = repo.git('ls-files', '-s');

  for (const [point, failure] of failures) {
    const cancel = new AbortController();
    const failing: Failpoints = (reached) => {
      if (reached !== `${kind}/${point}`) return undefined;
      if (failure === 'hang') setImmediate(() => cancel.abort());
      return failure;
    };
    const isTold = replaced.includes(point) || failure === 'hang';
    const words = isTold ? /[^;]; nothing was written$/ : /./;
    await expect(runWith(kind, failing, apply, cancel.signal), point).rejects.toThrow(words);
    expect(wholeTree(repo.path), point).toBe(before);
  }

  expect(await pointsOf(kind, apply)).toEqual(points);
  expect(repo.git('ls-files', '-s')).toBe(index);
  const tree = (path: string): string =>
    execFileSync(
      'find . -path ./.git -prune -o -printf "%y %p %l\\n" | sort; cat edited script new/deep/file',
      {
        cwd: path,
        encoding: 'utf8',
        shell: '/bin/bash',
      },
    );
  for (const name of ['staged', 'untracked']) rmSync(join(repo.path, name));
  expect(tree(repo.path)).toBe(tree(copy.path));
  expect(readdirSync(join(repo.path, '.git')).filter((name) => name.startsWith('banger'))).toEqual([]);
});

test('files keep the permissions they have here, new ones get those of the user: not those of the engine', async () => {
  const { repo, copy } = fixture;
  fill(repo);
  await fixture.prepare();
  changeAll(copy);
  chmodSync(join(copy.path, 'edited'), 0o755);
  copy.write('plain', 'guest\n');
  mkdirSync(join(repo.path, 'shared'));
  chmodSync(join(repo.path, 'shared'), 0o2775);
  copy.write('shared/file', 'guest\n');
  const engineMask = process.umask(0o077);
  try {
    await fixture.apply({ umask: 0o002 });
  } finally {
    process.umask(engineMask);
  }
  const modeOf = (name: string): string => (lstatSync(join(repo.path, name)).mode & 0o7777).toString(8);
  expect(
    Object.fromEntries(
      ['edited', 'script', 'plain', 'new', 'new/deep/file', 'shared/file'].map((name) => [
        name,
        modeOf(name),
      ]),
    ),
  ).toEqual({
    edited: '775',
    script: '750',
    plain: '664',
    new: '775',
    'new/deep/file': '775',
    'shared/file': '664',
  });
});

test('a file that changes while the changes are worked out is left alone, and so is all else', async () => {
  const { repo, copy } = fixture;
  fill(repo);
  await fixture.prepare();
  changeAll(copy);
  const operation = {
    ...fixture.operation,
    enter: (stage: string): void => {
      if (stage === 'Writing files') repo.write('script', 'just now\n');
    },
  };
  await expect(apply(operation)).rejects.toMatchObject({
    code: 'busy',
    message: '"script" has changed meanwhile; nothing was written',
  });
  expect(readFileSync(join(repo.path, 'edited'), 'utf8')).toBe('edited\n');
  expect(readFileSync(join(repo.path, 'script'), 'utf8')).toBe('just now\n');
});

test('killed while it writes, each file is the old or the new one; what it left goes, and asking again applies the rest', async () => {
  const { repo, copy } = fixture;
  fill(repo);
  await fixture.prepare();
  for (const name of ['edited', 'script', 'becomes-dir']) copy.write(name, 'guest\n');
  const staging = join(repo.path, '.git/banger-apply-killed');
  for (const name of ['edited', 'script', 'becomes-dir']) {
    mkdirSync(join(staging, 'files'), { recursive: true });
    copyFileSync(join(copy.path, name), join(staging, 'files', name));
  }
  mkdirSync(join(staging, 'backups'));
  const source = join(import.meta.dirname, '../../../src/engine');
  const child = spawnSync(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { lstatSync } from 'node:fs';
       import { withFailpoints } from '${source}/failpoints.ts';
       import { replaceFiles } from '${source}/workspace/applying/replace-files.ts';
       import { stampOf } from '${source}/workspace/host-tree/tree-files.ts';
       const stamp = (path) => stampOf(lstatSync('${repo.path}/' + path, { bigint: true }));
       const replacements = ['becomes-dir', 'edited', 'script'].map((path) => ({
         path, stamp: stamp(path), staged: Buffer.from('${staging}/files/' + path),
       }));
       const signal = new AbortController().signal;
       const kill = (point) => (point === 'test/replaced edited' ? 'kill' : undefined);
       const places = { topLevel: '${repo.path}', backups: '${staging}/backups', keep: () => undefined, umask: 18, signal };
       await withFailpoints(kill, { kind: 'test', signal }, () => replaceFiles(replacements, places));`,
    ],
    { encoding: 'utf8' },
  );
  expect(child.signal, child.stderr).toBe('SIGKILL');
  const now = (): string[] =>
    ['becomes-dir', 'edited', 'script'].map((name) => readFileSync(join(repo.path, name), 'utf8'));
  expect(now()).toEqual(['guest\n', 'guest\n', 'script\n']);
  utimesSync(staging, 1, 1);
  const { files } = await fixture.apply();
  expect(files.map(({ outcome }) => outcome)).toEqual(['present', 'present', 'applied']);
  expect(now()).toEqual(['guest\n', 'guest\n', 'guest\n']);
  expect(readdirSync(join(repo.path, '.git')).filter((name) => name.startsWith('banger'))).toEqual([]);
});

test.each([
  {
    where: 'in a repository whose path is like that of what is removed',
    name: 'banger-apply-demo',
    isFull: false,
  },
  { where: 'where it cannot get a name of its own, too', name: 'project', isFull: true },
])('what cannot be put back is named, and kept, $where', async ({ name, isFull }) => {
  const repo = createRepo(join(fixture.directory, name));
  const copy = openRepo(join(fixture.directory, 'guest/copy'));
  fill(repo);
  await fixture.prepare({ path: repo.path, guestPath: copy.path });
  copy.write('edited', 'guest\n');
  copy.write('new', 'guest\n');
  const kept = (): string[] =>
    readdirSync(join(repo.path, '.git')).filter((each) => each.startsWith('banger-'));
  const failing: Failpoints = (point) => {
    if (point !== `${kind}/replaced edited`) return undefined;
    // Somebody makes a directory of the file just then, and one of the name that the backups would get.
    rmSync(join(repo.path, 'edited'));
    mkdirSync(join(repo.path, 'edited'));
    repo.write('edited/inner', 'inner\n');
    if (isFull) repo.write(join('.git', kept()[0]!.replace('apply', 'kept'), 'other'), 'in the way\n');
    return 'enospc';
  };
  const run = (operation: Operation) => fixture.apply({ path: repo.path, operation });
  const failed = await runWith(kind, failing, run).catch((error: unknown) => error as BangerError);
  expect((failed as BangerError).message).toMatch(/"edited" could not be put back as before$/);
  const place = (failed as BangerError).hint!.replace(/^.*ls /, '');
  const contents = (): string[] => readdirSync(place).map((each) => readFileSync(join(place, each), 'utf8'));
  expect(contents()).toEqual(['edited\n']);

  // It is no leftover later on.
  for (const each of kept()) utimesSync(join(repo.path, '.git', each), 1, 1);
  rmSync(join(repo.path, 'edited'), { recursive: true });
  await fixture.apply({ path: repo.path, markers: true });
  expect(contents()).toEqual(['edited\n']);
});

test('files that are one by hard links are each replaced', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'one\n');
  linkSync(join(repo.path, 'a'), join(repo.path, 'b'));
  repo.commit('first');
  await fixture.prepare();
  copy.write('a', 'two\n');
  copy.write('b', 'three\n');
  await fixture.apply();
  expect(['a', 'b'].map((name) => readFileSync(join(repo.path, name), 'utf8'))).toEqual(['two\n', 'three\n']);
});
