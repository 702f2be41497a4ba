import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkTree } from '../../../src/engine/workspace/host-tree/inspect-tree.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { createRepo } from '../../support/git-repo.ts';
import { createFixture, hermeticExec, vmId, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

const check = (path: string) => checkTree(hermeticExec, { path, signal: new AbortController().signal });

test('what cannot be sent is refused before a VM is asked for', async () => {
  let asked = false;
  fixture.operation.enter = (stage) => void (asked ||= stage !== 'Reading working tree');
  await expect(fixture.prepare({ path: fixture.directory })).rejects.toMatchObject({
    code: 'invalid_argument',
  });
  expect(asked).toBe(false);
  expect(fixture.commands).toEqual([]);
});

test('a path outside a repository says how to make one', async () => {
  await expect(check(fixture.directory)).rejects.toMatchObject({
    message: `"${fixture.directory}" is not in a git repository`,
    hint: `Make it one with: git init ${fixture.directory}`,
  });
});

test('a path that is missing or a file is named', async () => {
  fixture.repo.write('a', 'a\n');
  await expect(check('/nonexistent/tree')).rejects.toMatchObject({ code: 'not_found' });
  await expect(check(join(fixture.repo.path, 'a'))).rejects.toThrow('is not a directory');
});

test('a bare repository and a .git directory have no working tree', async () => {
  const bare = join(fixture.directory, 'bare.git');
  execFileSync('git', ['init', '-q', '--bare', bare]);
  await expect(check(bare)).rejects.toThrow('is a bare repository and has no working tree');
  await expect(check(join(fixture.repo.path, '.git'))).rejects.toThrow('is inside a .git directory');
});

test('a bare repository is refused before anything is made, or run in a guest', async () => {
  const bare = join(fixture.directory, 'bare.git');
  execFileSync('git', ['init', '-q', '--bare', bare]);
  for (const vm of [undefined, 'web'])
    await expect(fixture.prepare({ path: bare, vm })).rejects.toThrow(
      'is a bare repository and has no working tree',
    );
  expect(fixture.commands).toEqual([]);
  expect(fixture.stages).toEqual(['Reading working tree', 'Reading working tree']);
  expect(listWorkspaces(fixture.context.db, vmId)).toEqual([]);
});

test('a submodule whose .git leads nowhere is refused by name', async () => {
  const { repo, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('a', 'a\n');
  lib.commit('lib');
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor/lib');
  writeFileSync(join(repo.path, 'vendor/lib/.git'), 'gitdir: ../../nowhere\n');
  await expect(fixture.prepare()).rejects.toThrow(/vendor\/lib/);
  expect(fixture.commands).toEqual([]);
});

test("a repository that git does not trust is refused with git's own advice", async () => {
  const { repo } = fixture;
  const distrustful: typeof hermeticExec = (argv, options = {}) =>
    hermeticExec(argv, { ...options, env: { ...options.env, GIT_TEST_ASSUME_DIFFERENT_OWNER: '1' } });
  await expect(
    checkTree(distrustful, { path: repo.path, signal: new AbortController().signal }),
  ).rejects.toMatchObject({
    message: `git refuses "${repo.path}": detected dubious ownership in repository at '${repo.path}'`,
    hint: `To add an exception for this directory, call: git config --global --add safe.directory ${repo.path}`,
  });
});

test('a repository that is kept in a way that git or banger cannot read is refused with the way out', async () => {
  const { repo } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  const migrate = `Have git 2.46 or newer keep them in files: git -C ${repo.path} refs migrate --ref-format=files`;
  const why = `"${repo.path}" keeps its branches as reftable (extensions.refStorage), which`;
  // What a git tells that knows it.
  const knowing: typeof hermeticExec = async (argv, options) => {
    const output = await hermeticExec(argv, options);
    if (!argv.includes('--show-scope')) return output;
    const told = Buffer.from('local\0extensions.refstorage\nreftable\0');
    return { ...output, stdout: Buffer.concat([output.stdout, told]) };
  };
  const { signal } = new AbortController();
  await expect(checkTree(knowing, { path: repo.path, signal })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `${why} banger does not read`,
    hint: migrate,
  });
  const config = readFileSync(join(repo.path, '.git/config'), 'utf8');
  const withExtension = (extension: string): void =>
    writeFileSync(
      join(repo.path, '.git/config'),
      `${config.replace('repositoryformatversion = 0', 'repositoryformatversion = 1')}[extensions]\n\t${extension}\n`,
    );
  withExtension('refStorage = reftable');
  const known = /which (?:git here is too old to read|banger does not read)$/;
  await expect(check(repo.path)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(known) as string,
    hint: migrate,
  });
  withExtension('fromTheFuture = true');
  await expect(check(repo.path)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${repo.path}" is kept in a way that git here is too old to read: fromthefuture`,
    hint: expect.stringContaining('git --version') as string,
  });
});

test('GIT_ variables of the engine do not matter', async () => {
  const { repo } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  mkdirSync(join(fixture.directory, 'elsewhere'));
  process.env['GIT_DIR'] = join(fixture.directory, 'elsewhere');
  try {
    expect(await fixture.prepare()).toMatchObject({ files: 1 });
  } finally {
    delete process.env['GIT_DIR'];
  }
});
