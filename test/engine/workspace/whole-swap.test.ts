import { readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';
import { createRepo, viewOf } from '../../support/git-repo.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
/** Called before each program of the guest */
let onRun: (argv: readonly string[]) => void;
beforeEach(async () => {
  onRun = () => undefined;
  fixture = createFixture({ onRun: (argv) => onRun(argv) });
  const { repo, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('a', 'a\n');
  lib.commit('lib');
  repo.write('file', 'one\n');
  repo.write('.gitignore', 'built\n');
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor');
  repo.commit('first');
  await fixture.prepare();
  repo.write('file', 'two\n');
});
afterEach(() => fixture.remove());

/** Does something in the guest once, after the last look at it, before the new tree takes the place of the old one. */
function onNoted(act: () => void): void {
  onRun = (argv) => {
    if (!argv.some((word) => word.includes('exec cat >"$1/.git/banger-ignored"'))) return;
    onRun = () => undefined;
    act();
  };
}

const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');

test('what is written in the guest just before its tree is replaced is looked at again, and not lost', async () => {
  const { repo, copy } = fixture;
  const undo = (): void => {
    copy.git('reset', '-q', '--hard');
    copy.git('clean', '-q', '-f');
    copy.git('-C', 'vendor', 'reset', '-q', '--hard');
  };
  onNoted(() => {
    copy.write('file', 'of the guest\n');
    // As a program that puts a file of old in its place.
    utimesSync(join(copy.path, 'file'), 1, 1);
  });
  await expect(fixture.prepare()).rejects.toThrow('changes that would be lost: "file"');
  expect(read('file')).toBe('of the guest\n');
  undo();
  onNoted(() => copy.write('new file', 'of the guest\n'));
  await expect(fixture.prepare()).rejects.toThrow('changes that would be lost: "new file"');
  expect(read('new file')).toBe('of the guest\n');
  undo();
  onNoted(() => copy.write('vendor/a', 'of the guest\n'));
  await expect(fixture.prepare()).rejects.toThrow('changes that would be lost: "vendor"');
  expect(read('vendor/a')).toBe('of the guest\n');
  undo();
  onNoted(() => copy.git('commit', '-q', '--allow-empty', '-m', 'of the guest'));
  await expect(fixture.prepare()).rejects.toThrow('commits that would be lost');
  copy.git('reset', '-q', '--hard', 'HEAD~1');

  // What git ignores goes on being written, and stays.
  copy.write('built', 'one\n');
  onNoted(() => copy.write('built', 'two\n'));
  await fixture.prepare();
  expect([read('built'), read('file')]).toEqual(['two\n', 'two\n']);
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('tags and notes of the guest’s own stop it as branches do, what it has from elsewhere does not', async () => {
  const { repo, copy } = fixture;
  const tree = copy.git('rev-parse', 'HEAD^{tree}').trim();
  const own = copy.git('commit-tree', tree, '-p', 'HEAD', '-m', 'of the guest').trim();
  const refused = async (name: string, ...remove: string[]): Promise<void> => {
    await expect(fixture.prepare(), name).rejects.toThrow(`that would be lost: "${name}"`);
    copy.git(...remove);
  };
  copy.git('tag', 'light', own);
  await refused('tags/light', 'tag', '-d', 'light');
  copy.git('tag', '-a', '-m', 'words', 'heavy', own);
  await refused('tags/heavy', 'tag', '-d', 'heavy');
  copy.git('notes', 'add', '-m', 'words');
  await refused('notes/commits', 'update-ref', '-d', 'refs/notes/commits');
  const identity = ['-c', 'user.name=a', '-c', 'user.email=a@b'];
  const inner = copy.git('-C', 'vendor', ...identity, 'commit-tree', 'HEAD^{tree}', '-m', 'inner').trim();
  copy.git('-C', 'vendor', 'tag', 'inner', inner);
  await refused('vendor/tags/inner', '-C', 'vendor', 'tag', '-d', 'inner');
  // As after a fetch.
  copy.git('update-ref', 'refs/remotes/origin/main', own);
  copy.git('tag', 'fetched', own);
  copy.git('branch', 'follows', own);
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('hooks that the guest has made, and its excludes where the host sends none, stay', async () => {
  const { repo, copy } = fixture;
  copy.write('.git/hooks/pre-commit', '#!/bin/sh\nexit 1\n', 0o755);
  copy.write('.git/modules/vendor/hooks/pre-push', '#!/bin/sh\nexit 1\n', 0o755);
  copy.write('.git/info/attributes', '*.x -text\n');
  copy.write('.git/info/exclude', 'of the guest\n');
  repo.write('.git/info/exclude', 'of the host\n');
  await fixture.prepare();
  expect(read('.git/hooks/pre-commit')).toContain('exit 1');
  expect(read('.git/modules/vendor/hooks/pre-push')).toContain('exit 1');
  expect([read('.git/info/attributes'), read('.git/info/exclude')]).toEqual(['*.x -text\n', 'of the host\n']);
  expect(read('file')).toBe('two\n');
});
