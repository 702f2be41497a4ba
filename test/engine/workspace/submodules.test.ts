import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { createRepo, openRepo, type GitRepo } from '../../support/git-repo.ts';
import { createFixture, notTaken, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
let onRun: (argv: readonly string[]) => void;
beforeEach(() => {
  onRun = () => undefined;
  fixture = createFixture({ onRun: (argv) => onRun(argv) });
});
afterEach(() => fixture.remove());

const add = ['-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add'];

/** `vendor/lib` with `deep` in it, `vendor/none` that is not initialised, and `own`, which `.gitmodules` does not name. */
function withSubmodules({ repo, directory }: Fixture): void {
  const deep = createRepo(join(directory, 'deep'));
  deep.write('deep.c', 'deep\n');
  deep.write('.gitignore', 'built\n');
  deep.commit('deep');
  const lib = createRepo(join(directory, 'lib'));
  lib.write('lib.c', 'lib\n');
  lib.write('.gitignore', 'built\n');
  lib.write('both.c', 'both\n');
  lib.git(...add, deep.path, 'deep');
  lib.commit('lib');
  repo.write('a', 'a\n');
  repo.git(...add, '--name', 'the library', lib.path, 'vendor/lib');
  repo.git(...add, deep.path, 'vendor/none');
  const own = createRepo(join(repo.path, 'own'));
  own.write('own.c', 'own\n');
  own.commit('own');
  repo.git('-c', 'advice.addEmbeddedRepo=false', 'add', '-A');
  repo.commit('all');
  repo.git(
    '-c',
    'protocol.file.allow=always',
    'submodule',
    '--quiet',
    'update',
    '--init',
    '--recursive',
    'vendor',
  );
  repo.git('submodule', '--quiet', 'deinit', '-f', 'vendor/none');
}

const inner = ({ path }: GitRepo, name: string): GitRepo => openRepo(join(path, name));

function says(repo: GitRepo): string[][] {
  return ['', 'vendor/lib', 'vendor/lib/deep', 'own'].map((name) => {
    const each = inner(repo, name);
    return [
      each.git('status', '--porcelain=v2', '--branch', '--untracked-files=no'),
      each.git('status', '--untracked-files=no'),
      each.git('diff', '--submodule=diff'),
      each.git('diff', '--cached'),
      each.git('ls-files', '-s', '-v'),
    ];
  });
}

test('submodules travel with their dirt, and git says of each what it says here', async () => {
  const { repo, copy } = fixture;
  withSubmodules(fixture);
  const lib = inner(repo, 'vendor/lib');
  lib.git('config', 'user.name', 'a');
  lib.git('config', 'user.email', 'a@a');
  lib.write('new.c', 'new\n');
  lib.commit('ahead of what the outer one records');
  lib.write('lib.c', 'unstaged\n');
  lib.write('both.c', 'staged\n');
  lib.git('add', 'both.c');
  lib.write('both.c', 'staged, then changed\n');
  inner(repo, 'vendor/lib/deep').write('deep.c', 'changed\n');
  rmSync(join(repo.path, 'own/own.c'));
  lib.write('stays', 'untracked\n');
  const before = repo.snapshot();
  const result = await fixture.prepare();
  expect(repo.snapshot()).toEqual(before);
  expect(result).toMatchObject({ warnings: [], untracked: 1 });

  expect(says(copy)).toEqual(says(repo));
  // Without the names in brackets: those are of other branches and tags, which stay behind.
  const listing = ({ git }: GitRepo): string =>
    git('submodule', 'status', '--recursive', 'vendor').replace(/ \(.*\)$/gm, '');
  expect(listing(copy)).toBe(listing(repo));
  for (const name of ['', 'vendor/lib', 'vendor/lib/deep', 'own']) inner(copy, name).git('fsck', '--strict');
  expect(readFileSync(join(copy.path, 'vendor/lib/.git'), 'utf8')).toBe(
    'gitdir: ../../.git/modules/the library\n',
  );
  expect(readdirSync(join(copy.path, 'vendor/none'))).toEqual([]);
  expect(existsSync(join(copy.path, 'vendor/lib/stays'))).toBe(false);
  expect(await fixture.export()).toMatchObject({ files: [], warnings: [] });
});

test('a submodule that the guest commits in, moves on, takes away or adds is named by export and apply', async () => {
  const { repo, copy, context, operation } = fixture;
  withSubmodules(fixture);
  await fixture.prepare();
  const lib = inner(copy, 'vendor/lib');
  lib.write('lib.c', 'changed in the guest\n');
  lib.git('-c', 'user.name=a', '-c', 'user.email=a@a', 'commit', '-qam', 'in the submodule');
  copy.write('a', 'changed\n');
  copy.git('commit', '-qam', 'with the submodule');
  const moved = lib.git('rev-parse', 'HEAD').slice(0, 12);
  rmSync(join(copy.path, 'own'), { recursive: true });
  const made = createRepo(join(copy.path, 'made'));
  made.write('file', 'x\n');
  made.commit('made');

  const names = ['made', 'own', 'vendor/lib'];
  const exported = await fixture.export();
  expect(exported.files.map(({ path }) => path)).toEqual(['a']);
  expect(exported.warnings).toEqual(names.map((name) => notTaken(fixture, name, 'in the patch')));
  expect(Buffer.from(exported.patch, 'base64').toString()).not.toContain('Subproject');

  const pieces: Buffer[] = [];
  const write = async (piece: Buffer): Promise<void> => void pieces.push(piece);
  const mails = await exportWorkspace(context, { path: repo.path, format: 'commits' }, operation, { write });
  expect(mails.warnings).toEqual([
    ...names.map((name) => notTaken(fixture, name, 'in the mails')),
    `The mails put "vendor/lib" on commit ${moved}, which is in a repository of its own and does not come with them`,
  ]);
  expect(Buffer.concat(pieces).toString()).toContain(`+Subproject commit ${moved}`);

  const before = says(repo);
  const applied = await fixture.apply();
  expect(applied).toMatchObject({ isApplied: true, files: [{ path: 'a' }] });
  expect(applied.warnings).toEqual(names.map((name) => notTaken(fixture, name, 'applied')));
  expect(says(repo).slice(1)).toEqual(before.slice(1));
  expect(readFileSync(join(repo.path, 'own/own.c'), 'utf8')).toBe('own\n');
});

test('changes in a submodule of the guest are named by export, and keep prepare from replacing them', async () => {
  const { repo, copy } = fixture;
  withSubmodules(fixture);
  await fixture.prepare();
  copy.write('a', 'changed\n');
  copy.write('vendor/lib/deep/deep.c', 'changed in the guest\n');
  const { files, warnings } = await fixture.export();
  expect(files.map(({ path }) => path)).toEqual(['a']);
  expect(warnings).toEqual([notTaken(fixture, 'vendor/lib', 'in the patch')]);
  copy.write('a', 'a\n');
  await expect(fixture.prepare()).rejects.toThrow('changes that would be lost: "vendor/lib"');
  await fixture.prepare({ overwrite: true });
  expect(readFileSync(join(copy.path, 'vendor/lib/deep/deep.c'), 'utf8')).toBe('deep\n');
  expect(repo.git('status', '--porcelain')).toBe('');
});

test('a tree that is sent whole keeps what git ignores in the guest, and is not sent over commits, stashes or late edits', async () => {
  const { repo, copy } = fixture;
  withSubmodules(fixture);
  repo.write('.gitignore', 'built\n*.key\nout/\n');
  repo.write('gone/file', 'x\n');
  repo.write('sent.key', 'sent\n');
  repo.commit('more');
  await fixture.prepare({ include: [join(repo.path, 'sent.key')] });
  const kept = [
    'built/deep/a',
    'gone/built',
    'out/kept',
    'vendor/lib/built',
    'vendor/lib/deep/built',
    ' a\nb.key',
  ];
  for (const path of kept) copy.write(path, path);
  repo.write('out/sent', 'sent\n');
  rmSync(join(repo.path, 'gone'), { recursive: true });
  repo.commit('gone');
  await fixture.prepare({ include: [join(repo.path, 'out')] });
  expect(kept.map((path) => readFileSync(join(copy.path, path), 'utf8'))).toEqual(kept);
  expect(['out/sent', 'sent.key'].map((path) => existsSync(join(copy.path, path)))).toEqual([true, false]);
  expect(existsSync(`${copy.path}.banger-old`)).toBe(false);

  // One that both made.
  repo.write('out/kept', 'of the host\n');
  await expect(fixture.prepare({ include: [join(repo.path, 'out')] })).rejects.toThrow('lost: "out/kept"');

  copy.git('switch', '-q', '-c', 'side');
  copy.write('a', 'on the side\n');
  copy.git('commit', '-qam', 'side');
  copy.git('switch', '-q', 'main');
  await expect(fixture.prepare()).rejects.toThrow('has commits or stashes that would be lost: "side"');
  copy.git('branch', '-q', '-D', 'side');
  copy.write('vendor/lib/lib.c', 'stashed\n');
  inner(copy, 'vendor/lib').git('stash', '-q');
  await expect(fixture.prepare()).rejects.toThrow('lost: "vendor/lib/stash"');
  inner(copy, 'vendor/lib').git('stash', 'drop', '-q');

  onRun = (argv) => {
    if (argv.some((word) => word.includes('tar -x -o -f -'))) copy.write('a', 'late\n');
  };
  await expect(fixture.prepare()).rejects.toThrow('changes that would be lost: "a"');
  expect(readFileSync(join(copy.path, 'a'), 'utf8')).toBe('late\n');
  onRun = () => undefined;

  // Killed between the new tree and what is carried over to it.
  copy.write('a', 'a\n');
  await fixture.prepare();
  renameSync(copy.path, `${copy.path}.banger-old`);
  writeFileSync(join(`${copy.path}.banger-old`, '.git/banger-ignored'), 'built/\0');
  cpSync(`${copy.path}.banger-old`, copy.path, { recursive: true, verbatimSymlinks: true });
  rmSync(join(copy.path, 'built'), { recursive: true });
  await fixture.prepare();
  expect(readFileSync(join(copy.path, 'built/deep/a'), 'utf8')).toBe('built/deep/a');
  expect(existsSync(`${copy.path}.banger-old`)).toBe(false);
});

test('untracked files of submodules travel when asked for, ignored ones when named', async () => {
  const { repo, copy } = fixture;
  withSubmodules(fixture);
  repo.write('vendor/lib/.gitignore', '*.key\n');
  repo.write('vendor/lib/a.key', 'key\n');
  repo.write('vendor/lib/b.key', 'key\n');
  const include = [join(repo.path, 'vendor/lib/a.key')];
  expect(await fixture.prepare({ includeUntracked: true, include })).toMatchObject({
    untracked: 0,
    ignored: 1,
  });
  expect(existsSync(join(copy.path, 'vendor/lib/.gitignore'))).toBe(true);
  expect(existsSync(join(copy.path, 'vendor/lib/a.key'))).toBe(true);
  expect(existsSync(join(copy.path, 'vendor/lib/b.key'))).toBe(false);
  expect(await fixture.export()).toMatchObject({ files: [], warnings: [] });
});

test('nothing that a submodule is set to run is run', async () => {
  const { repo, directory } = fixture;
  withSubmodules(fixture);
  const trap = join(directory, 'trap.sh');
  writeFileSync(trap, `#!/bin/sh\necho "$0" >> ${directory}/ran\n`, { mode: 0o755 });
  const lib = inner(repo, 'vendor/lib');
  lib.git('config', 'core.fsmonitor', trap);
  lib.git('config', 'core.hooksPath', directory);
  lib.git('config', 'filter.evil.clean', trap);
  repo.git('config', 'submodule.the library.update', `!${trap}`);
  repo.write('vendor/lib/.gitattributes', '* filter=evil\n');
  repo.write('vendor/lib/lib.c', 'changed\n');
  await fixture.prepare();
  expect(existsSync(join(directory, 'ran'))).toBe(false);
  expect(readFileSync(join(fixture.guestPath, '.git/config'), 'utf8')).not.toContain('trap');
});
