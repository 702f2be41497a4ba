import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { guestPrograms } from '../../support/guest-programs.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 120_000 });

const isRoot = process.getuid!() === 0;
let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  fixture.repo.write('a', 'a\n');
  fixture.repo.write('dir/b', 'b\n');
  fixture.repo.commit('first');
});
afterEach(() => fixture.remove());

/** The engine's view of a guest whose git is as old as this makes it, and finds every tree to be another user's. */
function contextWithGit(script: string): Fixture['context'] {
  const programs = join(fixture.directory, `programs-${Math.random()}`);
  mkdirSync(programs);
  const git = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  const text = `#!/bin/sh
for word; do
  shift
  [ "$word" = 'safe.directory=*' ] && word=some.thing=else
  set -- "$@" "$word"
done
${script}
export GIT_TEST_ASSUME_DIFFERENT_OWNER=1
exec ${git} "$@"
`;
  writeFileSync(join(programs, 'git'), text, { mode: 0o755 });
  const env = { PATH: `${programs}:${process.env['PATH']}` };
  const { guest } = createFakeGuest({ env, programs: guestPrograms() });
  return { ...fixture.context, guest: async () => guest };
}

test.each([
  ['2.37, which has no safe.directory on its command line', ''],
  ['2.31, which has not heard of GIT_CONFIG_GLOBAL either', 'unset GIT_CONFIG_GLOBAL'],
])('a tree of another owner is exported, applied and sent again by git %s', async (_, script) => {
  const { repo, copy } = fixture;
  await fixture.prepare();
  const context = contextWithGit(script);
  Object.assign(fixture.context, { guest: context.guest });
  copy.write('a', 'guest\n');
  copy.write('binary', Buffer.alloc(9));
  copy.git('add', '.');
  copy.git('commit', '-qm', 'in the guest');
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['a', 'binary']);
  expect(await fixture.apply()).toMatchObject({ isApplied: true });
  expect(readFileSync(join(repo.path, 'a'), 'utf8')).toBe('guest\n');
  copy.git('reset', '-q', '--hard', 'HEAD~1');
  repo.write('dir/b', 'host\n');
  expect(await fixture.prepare({ overwrite: true })).toMatchObject({ update: {} });
  expect(readFileSync(join(copy.path, 'dir/b'), 'utf8')).toBe('host\n');
});

test('where not even that helps, git is quoted and not its advice, and a restart of the VM is', async () => {
  await fixture.prepare();
  const context = contextWithGit('unset GIT_CONFIG_GLOBAL XDG_CONFIG_HOME');
  Object.assign(fixture.context, { guest: context.guest });
  // Where nothing was changed, no git is asked.
  fixture.copy.write('a', 'guest\n');
  await expect(fixture.export()).rejects.toMatchObject({
    message: expect.stringMatching(
      /in VM "web": fatal: detected dubious ownership in repository at/,
    ) as string,
    hint: expect.stringContaining('banger vm restart web') as string,
  });
});

/** What in the guest's tree is root's, but for our own notes, which nobody else writes. */
function ofRoot(): string[] {
  const paths = readdirSync(fixture.guestPath, { recursive: true, encoding: 'utf8' });
  return ['.', ...paths].filter((path) => {
    return !/^\.git\/banger-/.test(path) && statSync(join(fixture.guestPath, path)).uid === 0;
  });
}

test.runIf(isRoot)(
  'a tree that was given to another user stays theirs, whatever is done with it',
  async () => {
    const { repo, copy } = fixture;
    await fixture.prepare();
    execFileSync('chown', ['-R', '1234:1234', copy.path]);
    repo.write('a', 'host\n');
    repo.write('new/deep/c', 'c\n');
    repo.commit('second');
    await fixture.prepare();
    expect(ofRoot()).toEqual([]);
    // Root looks, and makes objects.
    writeFileSync(join(copy.path, 'a'), 'guest\n');
    execFileSync('chown', ['1234:1234', join(copy.path, 'a')]);
    expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['a']);
    expect(ofRoot()).toEqual([]);
    // All of it is replaced.
    await fixture.prepare({ overwrite: true, fullHistory: true });
    writeFileSync(join(copy.path, '.git/banger-sent'), 'nothing that anybody knows\n');
    await fixture.prepare({ overwrite: true });
    expect(readFileSync(join(copy.path, 'a'), 'utf8')).toBe('host\n');
    expect(ofRoot()).toEqual([]);
  },
);

test.runIf(isRoot)(
  "a file of root that somebody put into their repository by a second name stays root's",
  async () => {
    const { repo, copy } = fixture;
    await fixture.prepare();
    execFileSync('chown', ['-R', '1234:1234', copy.path]);
    // Git's index has one of ours, and is theirs.
    repo.write('a', 'staged\n');
    repo.git('add', 'a');
    await fixture.prepare();
    const { nlink, uid } = statSync(join(copy.path, '.git/index'));
    expect([nlink, uid]).toEqual([2, 1234]);

    const secret = join(fixture.directory, 'shadow');
    writeFileSync(secret, 'secret\n');
    const owner = () => statSync(secret).uid;
    for (const name of ['x', 'objects/x', 'banger-own-index']) {
      rmSync(join(copy.path, '.git', name), { force: true });
      linkSync(secret, join(copy.path, '.git', name));
      await fixture.export();
      expect(owner(), name).toBe(0);
      repo.write('a', `host ${name}\n`);
      await fixture.prepare();
      expect(owner(), name).toBe(0);
      rmSync(join(copy.path, '.git', name), { force: true });
    }
    // Git refuses that index.
    for (const name of ['index', 'banger-own-index']) {
      rmSync(join(copy.path, '.git', name), { force: true });
      linkSync(secret, join(copy.path, '.git', name));
    }
    await fixture.export().catch(() => undefined);
    expect(owner()).toBe(0);
  },
);
