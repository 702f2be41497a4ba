import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { createRepo, wholeTree } from '../../support/git-repo.ts';
import { createFixture, notTaken, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  for (const name of ['edited', 'both', 'Readme', 'dir/deep']) repo.write(name, `${'line\n'.repeat(9)}end\n`);
  repo.write('.gitignore', 'ignored*\n');
  repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const everything = (): string => wholeTree(fixture.repo.path);

/** The engine's view of a guest whose git is a script: `real` is the true one, `$*` what is asked of it. */
function lyingContext(script: string): Fixture['context'] {
  const programs = join(fixture.directory, `programs-${Math.random()}`);
  mkdirSync(programs);
  const git = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  writeFileSync(join(programs, 'git'), `#!/bin/sh\nreal=${git}\n${script}\nexec $real "$@"\n`, {
    mode: 0o755,
  });
  const { guest } = createFakeGuest({ env: { PATH: `${programs}:${process.env['PATH']}` } });
  return { ...fixture.context, guest: async () => guest };
}

/** A guest that says it has changed this path, too: mode and content of its choosing. */
function contextWith(path: string, mode = '100644', content = 'evil\n'): Fixture['context'] {
  const oid = fixture.copy.git('hash-object', '-w', writeTemporary(content)).trim();
  const zero = '0'.repeat(40);
  return lyingContext(
    `case "$*" in *diff-index*) printf ':000000 ${mode} ${zero} ${oid} A\\t%s\\n1\\t0\\t%s\\n\\n' '${path}' '${path}'; exit;; esac`,
  );
}

function writeTemporary(content: string): string {
  const path = join(fixture.directory, 'content');
  writeFileSync(path, content);
  return path;
}

test('a guest that lists a path out of the tree, or in .git in any spelling, is refused, and nothing is touched', async () => {
  const before = everything();
  for (const path of [
    '.git/hooks/pre-commit',
    '.GIT/config',
    '.git ',
    '.git./config',
    'dir/.Git/x',
    'git~1/hooks/x',
    '.git::$INDEX_ALLOCATION/x',
    '.g\u200cit/config',
    '../outside',
    'dir/../../outside',
    '/etc/cron.d/evil',
    './edited',
    'dir//deep',
  ])
    await expect(fixture.apply({ context: contextWith(path) }), path).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringContaining('a path that no working tree has') as unknown,
    });
  expect(everything()).toBe(before);
  expect(readdirSync(fixture.directory)).not.toContain('outside');
});

test('a mode that git does not know, a tree or a submodule in place of a file are not written', async () => {
  const before = everything();
  await expect(fixture.apply({ context: contextWith('new', '100666') })).rejects.toThrow();
  await expect(fixture.apply({ context: contextWith('new', '040000') })).rejects.toThrow();
  const { warnings } = await fixture.apply({ context: contextWith('new', '160000') });
  expect(warnings).toEqual([notTaken(fixture, 'new', 'applied')]);
  expect(everything()).toBe(before);
});

test('a symlink and a file below it cannot come together', async () => {
  const { copy, directory } = fixture;
  mkdirSync(join(directory, 'elsewhere'));
  const link = copy.git('hash-object', '-w', writeTemporary('dir')).trim();
  const file = copy.git('hash-object', '-w', writeTemporary('evil\n')).trim();
  const zero = '0'.repeat(40);
  const list = `:000000 120000 ${zero} ${link} A\\tl\\n:000000 100644 ${zero} ${file} A\\tl/deep\\n`;
  const context = lyingContext(`case "$*" in *diff-index*) printf '${list}\\n'; exit;; esac`);
  const before = everything();
  const { files, isApplied } = await fixture.apply({ context, markers: true });
  expect(isApplied).toBe(true);
  expect(files.map(({ conflict }) => conflict)).toEqual(['file/directory', 'file/directory']);
  expect(everything()).toBe(before);
});

test('nothing is written through a symlink, into a repository, or over a file that git does not see here', async () => {
  const { repo, copy, directory } = fixture;
  const outside = join(directory, 'elsewhere');
  mkdirSync(outside);
  // Git ignores all of them, so that they are in no index.
  symlinkSync(outside, join(repo.path, 'ignored-link'));
  createRepo(join(repo.path, 'ignored-repository')).write('own', 'own\n');
  repo.write('ignored-file', 'precious\n');
  repo.write('ignored-dir/inner', 'precious\n');
  const refusals = {
    'ignored-link/new': 'is beyond a symbolic link here, "ignored-link"',
    'ignored-repository/new': '"ignored-repository" is a repository of its own here',
    'ignored-file': 'is in the way: git does not track it here',
    'ignored-file/new': 'is a file that is in the way',
    'ignored-dir': 'is a directory with files that git does not track',
  };
  copy.write('edited', 'guest\n');
  const before = everything();
  for (const [path, words] of Object.entries(refusals)) {
    copy.write(path, 'guest\n');
    copy.git('add', '-f', path);
    await expect(fixture.apply(), path).rejects.toThrow(new RegExp(`${words}.*; nothing was written`));
    expect(everything(), path).toBe(before);
    copy.git('rm', '-q', '--cached', path);
    rmSync(join(copy.path, path.split('/')[0]!), { recursive: true });
  }
  expect(readdirSync(outside)).toEqual([]);
});

test('symlinks that lead out of the tree by way of others are refused, also those of the host', async () => {
  const { repo, copy } = fixture;
  repo.write('x/y/z/file', 'deep\n');
  repo.write('top', 'top\n');
  repo.write('a/b/file', 'deep\n');
  symlinkSync('a/b/../../top', join(repo.path, 'through'));
  symlinkSync('/etc', join(repo.path, 'ignored-etc'));
  repo.commit('links');
  await fixture.prepare();
  const before = everything();
  const refused = async (words: string): Promise<void> => {
    await expect(fixture.apply(), words).rejects.toThrow(words);
    expect(everything(), words).toBe(before);
    copy.git('reset', '-q', '--hard');
    copy.git('clean', '-q', '-f', '-d');
  };
  // By its letters, the second stays inside.
  symlinkSync('../../..', join(copy.path, 'x/y/z/up'));
  symlinkSync('x/y/z/up/../outside/s', join(copy.path, 'evil'));
  await refused('"evil" is a symlink that leads out of the tree, to "x/y/z/up/../outside/s"');
  // What it leads to depends on what is there.
  mkdirSync(join(copy.path, 'other'));
  copy.write('other/file', 'deep\n');
  rmSync(join(copy.path, 'a/b'), { recursive: true });
  symlinkSync('../other', join(copy.path, 'a/b'));
  await refused('"through" is a symlink here that would lead out of the tree by what changed');
  symlinkSync('ignored-etc/passwd', join(copy.path, 'evil'));
  await refused('"evil" is a symlink that leads out of the tree');
  symlinkSync('loop', join(copy.path, 'loop'));
  symlinkSync('x'.repeat(4000), join(copy.path, 'long'));
  symlinkSync('x/y/.GIT/config', join(copy.path, 'config'));
  await refused('"config" is a symlink that leads out of the tree');
  symlinkSync('x/y/../y/z/file', join(copy.path, 'fine'));
  symlinkSync('through/../fine', join(copy.path, 'finer'));
  expect((await fixture.apply()).isApplied).toBe(true);
});

test('hundreds of symlinks are read by few programs', async () => {
  const { copy, context } = fixture;
  for (let count = 0; count < 300; count++) symlinkSync(`target-${count}`, join(copy.path, `link-${count}`));
  let ran = 0;
  const counting: typeof context.exec = (...args) => {
    ran++;
    return context.exec(...args);
  };
  expect((await fixture.apply({ context: { ...context, exec: counting } })).files).toHaveLength(300);
  expect(ran).toBeLessThan(100);
});

test('a file in a submodule of the host is a conflict', async () => {
  const { repo, copy, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('a', 'a\n');
  lib.commit('lib');
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor');
  copy.write('vendor/new', 'guest\n');
  const before = everything();
  const { files } = await fixture.apply({ markers: true });
  expect(files).toMatchObject([{ path: 'vendor/new', outcome: 'conflict', conflict: 'submodule' }]);
  expect(everything()).toBe(before);
});

test('a .gitmodules by which git would follow a guest is refused', async () => {
  const { copy } = fixture;
  copy.write('edited', 'guest\n');
  const before = everything();
  const module = (lines: string, name = 'x'): string => `[submodule "${name}"]\n\t${lines}\n`;
  for (const content of [
    module('path = x\n\turl = x', '../../.git/hooks'),
    module('path = x\n\turl = -u./payload'),
    module('path = x\n\turl = ext::sh -c evil'),
    module('path = -x\n\turl = x'),
    module('path = .git/x\n\turl = x'),
    module('path = x\n\turl = x\n\tupdate = !evil'),
    '[nonsense\n',
  ]) {
    copy.write('.gitmodules', content);
    await expect(fixture.apply(), content).rejects.toThrow('".gitmodules"');
    expect(everything(), content).toBe(before);
  }
  await expect(fixture.apply({ context: contextWith('.gitmodules', '120000', 'edited') })).rejects.toThrow(
    '".gitmodules" is a symlink',
  );
  rmSync(join(copy.path, '.gitmodules'));
  copy.write('.gitmodules', module('path = lib\n\turl = ../lib.git\n\tupdate = rebase', 'lib'));
  expect((await fixture.apply()).isApplied).toBe(true);
});

test('a rename by case alone arrives', async () => {
  const { copy, repo } = fixture;
  copy.git('mv', 'Readme', 'README');
  await fixture.apply();
  expect(readdirSync(repo.path)).toContain('README');
  expect(readdirSync(repo.path)).not.toContain('Readme');
});

test('A24: what a guest makes of lines, attributes and sizes is looked at in bounded memory', async () => {
  const lines = '\n'.repeat(33 * 1024 * 1024);
  const context = contextWith('huge', '100644', lines);
  // Not in lines: git would take gigabytes to count them.
  expect((await fixture.apply({ context, dryRun: true })).files).toMatchObject([
    { path: 'huge', outcome: 'applied', oldBytes: 0, newBytes: lines.length },
  ]);
  fixture.repo.write('huge', 'here\n');
  expect((await fixture.apply({ context })).files).toMatchObject([
    { conflict: 'add/add', reason: 'Cannot merge files that large: huge (here vs. VM "web")' },
  ]);
  const attributes = contextWith('dir/.gitattributes', '100644', '* text\n'.repeat(200_000));
  expect((await fixture.apply({ context: attributes, dryRun: true })).warnings).toEqual([
    expect.stringContaining('"dir/.gitattributes" is too large to be searched'),
  ]);
  await expect(
    fixture.apply({ context: contextWith('.gitmodules', '100644', '#\n'.repeat(600_000)) }),
  ).rejects.toThrow('".gitmodules" is too large to be looked at');
});
