import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';
import type { GitRepo } from '../../support/git-repo.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  const { repo } = fixture;
  for (const name of ['a', 'loose']) repo.write(name, 'base\n');
  repo.commit('base');
  repo.git('checkout', '-q', '-b', 'side');
  repo.write('a', 'side\n');
  repo.commit('side');
  repo.git('checkout', '-q', 'main');
  repo.write('a', 'main\n');
  repo.commit('main');
  repo.git('branch', 'below');
  repo.git('checkout', '-q', '-b', 'inner');
  repo.write('inner', 'inner\n');
  repo.commit('inner');
  repo.git('checkout', '-q', 'main');
  repo.write('more', 'more\n');
  repo.commit('more');
});
afterEach(() => fixture.remove());

/** What git is in the middle of, and how it goes on when the conflict is resolved. */
const states: Record<string, readonly [begin: (repo: GitRepo) => void, next: readonly string[]]> = {
  merge: [(repo) => repo.git('merge', 'side'), ['merge', '--continue']],
  'merge with what was not committed put away': [
    (repo) => {
      repo.write('loose', 'loose\n');
      repo.git('merge', '--autostash', 'side');
    },
    ['merge', '--continue'],
  ],
  'cherry-pick of several': [
    (repo) => repo.git('cherry-pick', 'side', 'inner'),
    ['cherry-pick', '--continue'],
  ],
  revert: [(repo) => repo.git('revert', '--no-edit', 'side'), ['revert', '--continue']],
  rebase: [(repo) => repo.git('rebase', 'side'), ['rebase', '--continue']],
  'rebase with what was not committed put away': [
    (repo) => {
      repo.write('loose', 'loose\n');
      repo.git('rebase', '--autostash', 'side');
    },
    ['rebase', '--continue'],
  ],
  'rebase that moves branches below': [
    (repo) => repo.git('rebase', '--update-refs', 'side'),
    ['rebase', '--continue'],
  ],
  'rebase of merges': [
    (repo) => {
      repo.git('merge', '-q', '--no-ff', '-m', 'both', 'inner');
      repo.git('rebase', '--rebase-merges', 'side');
    },
    ['rebase', '--continue'],
  ],
  'rebase by apply': [(repo) => repo.git('rebase', '--apply', 'side'), ['rebase', '--continue']],
  mails: [
    (repo) => {
      const mails = join(fixture.directory, 'mails');
      writeFileSync(mails, repo.git('format-patch', '--stdout', 'main~2..side'));
      repo.git('am', '-q', '-3', mails);
    },
    ['am', '--continue'],
  ],
};

test.each(Object.entries(states))(
  'a %s that is under way here is finished there as here',
  async (_, state) => {
    const [begin, next] = state;
    const { repo, copy } = fixture;
    expect(() => begin(repo)).toThrow();
    const { warnings } = await fixture.prepare();
    expect(warnings).toEqual([]);
    for (const each of [repo, copy]) {
      each.write('a', 'resolved\n');
      each.git('add', 'a');
      each.git('-c', 'core.editor=true', ...next);
    }
    const says = (each: GitRepo): string[] => [
      each.git('log', '-6', '--format=%T %s', 'HEAD'),
      each.git('log', '-6', '--format=%T %s', 'main'),
      each.git('status', '--untracked-files=no'),
      each.git('diff'),
    ];
    expect(says(copy)).toEqual(says(repo));
    copy.git('fsck', '--strict');
  },
);
