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
