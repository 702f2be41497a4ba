import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { GitRepo } from '../../support/git-repo.ts';
import { files, says } from './git-says.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** What is done to a tree, one after the other; it is sent after each. */
const histories: Record<string, readonly ((repo: GitRepo) => unknown)[]> = {
  'line ends that change, are added, and change back': [
    (repo) => {
      repo.git('config', 'core.autocrlf', 'input');
      for (const name of ['a', 'b']) repo.write(name, 'one\ntwo\n');
      repo.commit('first');
      repo.write('b', 'something longer\nand else\n');
    },
    (repo) => {
      for (const name of ['a', 'b']) repo.write(name, 'one\r\ntwo\r\n');
    },
    (repo) => repo.git('add', 'a'),
    (repo) => repo.write('a', 'one\ntwo\n'),
  ],

  'attributes that come when files are there': [
    (repo) => {
      repo.write('a', 'one\r\ntwo\r\n');
      repo.write('b', 'one\ntwo\n');
      repo.commit('first');
    },
    (repo) => {
      repo.write('.gitattributes', '* text eol=crlf\n');
      repo.commit('attributes');
    },
    (repo) => repo.git('add', '--renormalize', '.'),
    (repo) => {
      rmSync(join(repo.path, 'b'));
      repo.git('checkout', '--', 'b');
    },
  ],

  'what git is told not to look at, and bits that count no more': [
    (repo) => {
      for (const name of ['assumed', 'skipped', 'mode']) repo.write(name, 'one\n');
      repo.commit('first');
      repo.git('update-index', '--assume-unchanged', 'assumed');
      repo.git('update-index', '--skip-worktree', 'skipped');
      chmodSync(join(repo.path, 'mode'), 0o755);
    },
    (repo) => {
      // Of another length: git takes one of the same length and second for the one that it was told not to look at.
      for (const name of ['assumed', 'skipped']) repo.write(name, 'other\n');
      repo.git('config', 'core.fileMode', 'false');
    },
    (repo) => {
      repo.git('update-index', '--no-assume-unchanged', 'assumed');
      repo.git('update-index', '--no-skip-worktree', 'skipped');
      repo.git('config', 'core.fileMode', 'true');
    },
  ],
};

test.each(Object.entries(histories))(
  'git says the same in the guest, however often a tree is sent: %s',
  async (_, steps) => {
    const { repo, copy } = fixture;
    for (const [at, step] of steps.entries()) {
      step(repo);
      await fixture.prepare();
      expect(says(copy), `step ${at}`).toEqual(says(repo));
      expect(files(copy), `step ${at}`).toEqual(files(repo));
    }
  },
  120_000,
);
