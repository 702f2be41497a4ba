import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createRepo, makeTempDirectory, type GitRepo } from '../../support/git-repo.ts';
import { mortalPrograms } from '../../support/mortal-programs.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

/** More programs than this take no part in a swap: a loop that gets here does not end. */
const mostTurns = 60;

let fixture: Fixture;
let own: ReturnType<typeof makeTempDirectory>;
let programs: ReturnType<typeof mortalPrograms>;
/** The program of the next swap whose shell is killed before it runs; undefined: none */
let turn: number | undefined;
beforeEach(async () => {
  own = makeTempDirectory();
  programs = mortalPrograms(own.path);
  turn = undefined;
  fixture = createFixture({
    env: { PATH: programs.path },
    onRun: (argv) => {
      // What looks at the guest before changes nothing there.
      if (turn === undefined || !argv.some((word) => word.includes('mv "$path" "$path.banger-old"'))) return;
      programs.killAt(turn);
      turn = undefined;
    },
  });
  const { repo, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('a', 'a\n');
  lib.commit('lib');
  repo.write('.gitignore', 'built/\n');
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor');
  write(0);
  await fixture.prepare();
});
afterEach(() => {
  fixture.remove();
  own.remove();
});

/** Another state of the tree, and of the submodule in it. */
function write(version: number): void {
  const { repo } = fixture;
  repo.write('file', `${version}\n`);
  repo.commit(`version ${version}`);
  repo.write('file', `${version} and dirty\n`);
  repo.write('vendor/a', `${version}\n`);
}

const seen = (repo: GitRepo): string =>
  [
    repo.git('status', '--porcelain=v2', '--branch', '--untracked-files=no'),
    repo.git('-C', 'vendor', 'status', '--porcelain=v2'),
    ...['file', 'vendor/a'].map((path) => readFileSync(join(repo.path, path), 'utf8')),
  ].join('\n');

test.each([false, true])(
  'a whole tree that takes the place of another, killed there at any point, is the one or the other (overwrite: %s)',
  async (overwrite) => {
    const { repo, copy, guestPath } = fixture;
    copy.write('built/deep/kept', 'built\n');
    const outcomes = new Set<string>();
    let before = seen(copy);
    const killed: string[] = [];
    let whole: string[] = [];
    let at = 0;
    for (; at < mostTurns; at++) {
      write(at + 1);
      const wanted = seen(repo);
      turn = at;
      const ended = await fixture.prepare({ overwrite }).then(
        () => 'done' as const,
        () => 'killed' as const,
      );
      expect(turn, 'all of the tree was sent').toBeUndefined();
      const ran = programs.ran();
      programs.killAt(-1);
      // Programs of a pipeline count at the same time, and may count as one.
      if (ran.length <= at && ended === 'done') {
        whole = ran;
        break;
      }
      if (ran.length > at) killed.push(ran[at]!);
      expect(existsSync(guestPath), `at ${at}`).toBe(true);
      const found = seen(copy);
      if (found !== wanted) expect(found, `at ${at}`).toBe(before);
      outcomes.add(`${ended}, ${found === wanted ? 'new' : 'old'}`);
      expect(readFileSync(join(copy.path, 'built/deep/kept'), 'utf8'), `at ${at}`).toBe('built\n');
      expect(readdirSync(dirname(guestPath)), `at ${at}`).toEqual(['project']);
      before = found;
    }
    // What was interrupted is in nobody's way.
    expect(seen(copy)).toBe(seen(repo));
    // All points of a whole sending, up to the last, which nobody waits for.
    const waitedFor = (names: readonly string[]) => names.filter((name) => name !== 'sync');
    expect(waitedFor(killed)).toHaveLength(waitedFor(whole).length);
    expect(waitedFor(killed).slice(-3)).toEqual(waitedFor(whole).slice(-3));
    expect(at).toBeGreaterThan(4);
    expect(at).toBeLessThan(mostTurns);
    expect([...outcomes].sort()).toEqual(expect.arrayContaining(['killed, new', 'killed, old']));
  },
);

test('what is killed there while it looks for changes is told as that: none are made up, and none are missed', async () => {
  const outcomes = new Set<string>();
  // Some programs run at the same time: which is the last cannot be told by their number.
  for (let turn = 0; turn < 20; turn++) {
    const isChanged = turn % 2 === 1;
    fixture.copy.write('vendor/a', isChanged ? 'of the guest\n' : '0\n');
    programs.killAt(Math.floor(turn / 2));
    const outcome = await fixture.export().then(
      ({ files, warnings }) => ({ files, warnings }),
      (error: unknown) => String(error),
    );
    const inner = isChanged ? [expect.stringContaining('"vendor" is a repository of its own')] : [];
    if (typeof outcome === 'string') expect(outcome).toContain('git cannot read');
    else expect(outcome, `turn ${turn}`).toEqual({ files: [], warnings: inner });
    outcomes.add(typeof outcome);
  }
  expect(outcomes).toContain('string');
});
