import { readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';
import { viewOf, type GitRepo } from '../../support/git-repo.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
/** Called before each program of the guest; may throw, as a connection that breaks */
let onRun: (argv: readonly string[]) => void;
beforeEach(() => {
  onRun = () => undefined;
  fixture = createFixture({ onRun: (argv) => onRun(argv) });
});
afterEach(() => fixture.remove());

const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');

test('a commit that changes no file is sent again when it did not arrive', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  repo.commit('first');
  repo.write('file', 'two\n');
  await fixture.prepare();
  // The files are the same before and after, so their tree is, too.
  repo.commit('second');
  onRun = (argv) => {
    if (argv.some((word) => word.includes('mv -f .git/banger-next.part')))
      throw new Error('the engine is killed');
  };
  await expect(fixture.prepare()).rejects.toThrow('the engine is killed');
  onRun = () => undefined;
  expect(copy.git('rev-parse', 'HEAD')).not.toBe(repo.git('rev-parse', 'HEAD'));
  expect(await fixture.prepare()).toMatchObject({ files: 0 });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  copy.git('fsck', '--strict');
});

test('an update that cannot be finished says so, and is replaced when it may be', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  repo.commit('first');
  await fixture.prepare();
  // Git there cannot move its branch.
  copy.write('.git/refs/heads/main.lock', '');
  repo.write('file', 'two\n');
  repo.commit('second');
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'command_failed',
    message: expect.stringMatching(/is partly updated: that stopped: .*main\.lock/) as string,
  });
  // Nobody is given half of it.
  await expect(fixture.export()).rejects.toMatchObject({ code: 'command_failed' });
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));

  copy.write('.git/refs/heads/main.lock', '');
  repo.write('file', 'three\n');
  repo.commit('third');
  await expect(fixture.prepare()).rejects.toThrow('partly updated');
  rmSync(join(copy.path, '.git/refs/heads/main.lock'));
  expect((await fixture.export()).files).toEqual([]);
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('another workspace of the VM does not have to wait for one that cannot be finished', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('.git/refs/heads/main.lock', '');
  repo.write('file', 'two\n');
  repo.commit('second');
  await expect(fixture.prepare()).rejects.toThrow('partly updated');
  const other = `${fixture.guestPath}-other`;
  await fixture.prepare({ guestPath: other });
  expect(readFileSync(join(other, 'file'), 'utf8')).toBe('two\n');
});

test('the whole history, once it is there, stays whole', async () => {
  const { repo, copy } = fixture;
  const commit = (number: number): void => {
    repo.write('file', `${number}\n`);
    repo.commit(`commit ${number}`);
  };
  for (let number = 0; number < 14; number++) commit(number);
  await fixture.prepare({ fullHistory: true });
  for (let number = 14; number < 28; number++) commit(number);
  await fixture.prepare();
  expect(copy.git('rev-list', '--count', 'HEAD')).toBe('28\n');
  expect(copy.git('rev-parse', '--is-shallow-repository')).toBe('false\n');
  copy.git('fsck', '--strict');
});

test('the whole history of a clone that is cut itself ends where that does, and goes on when that does', async () => {
  const { repo, copy } = fixture;
  for (let number = 0; number < 18; number++) {
    repo.write('file', `${number}\n`);
    repo.commit(`commit ${number}`);
  }
  const cut = join(repo.path, '.git/shallow');
  writeFileSync(cut, repo.git('rev-parse', 'HEAD~14'));
  const expectAsHere = (): void => {
    expect(copy.git('rev-list', 'HEAD')).toBe(repo.git('rev-list', 'HEAD'));
    copy.git('fsck', '--strict');
  };
  await fixture.prepare();
  expect(copy.git('rev-list', '--count', 'HEAD')).toBe('10\n');
  for (let times = 0; times < 2; times++) {
    await fixture.prepare({ fullHistory: true });
    expectAsHere();
  }
  expect(copy.git('rev-list', '--count', 'HEAD')).toBe('15\n');
  rmSync(cut);
  for (let times = 0; times < 2; times++) {
    await fixture.prepare({ fullHistory: true });
    expectAsHere();
  }
  expect(copy.git('rev-parse', '--is-shallow-repository')).toBe('false\n');
});

test('a history that was cut is deepened where the host goes back, and cut where it goes on', async () => {
  const { repo, copy } = fixture;
  for (let number = 0; number < 30; number++) {
    repo.write('file', `${number}\n`);
    repo.commit(`commit ${number}`);
  }
  const log = (each: GitRepo, count: number): string => each.git('log', '--format=%H', `-${count}`);
  await fixture.prepare();
  const ends = read('.git/shallow');
  repo.git('reset', '-q', '--hard', 'HEAD~5');
  await fixture.prepare();
  expect(log(copy, 9)).toBe(log(repo, 9));
  expect(read('.git/shallow')).not.toBe(ends);
  expect(viewOf(copy)).toEqual(viewOf(repo));
  copy.git('fsck', '--strict');
  for (let number = 0; number < 15; number++) {
    repo.write('file', `more ${number}\n`);
    repo.commit(`more ${number}`);
  }
  await fixture.prepare();
  expect(log(copy, 9)).toBe(log(repo, 9));
  copy.git('fsck', '--strict');
  copy.git('gc', '-q', '--prune=now');
  copy.git('fsck', '--strict');
});

test('files, directories and symlinks in each other’s place, and names that differ in case only', async () => {
  const { repo, copy } = fixture;
  repo.write('a/b/c', '1\n');
  repo.write('d', '1\n');
  repo.write('e/f', '1\n');
  repo.write('target/inner', 'kept\n');
  repo.write('Case', '1\n');
  symlinkSync('target', join(repo.path, 'link'));
  repo.git('add', '-A');
  repo.commit('first');
  await fixture.prepare();

  rmSync(join(repo.path, 'a'), { recursive: true });
  repo.write('a', 'a file\n');
  rmSync(join(repo.path, 'd'));
  repo.write('d/deep/er', '2\n');
  rmSync(join(repo.path, 'e'), { recursive: true });
  symlinkSync('target', join(repo.path, 'e'));
  rmSync(join(repo.path, 'link'));
  // Below what was a symlink: what it led to is not to be written to.
  repo.write('link/inner', 'below\n');
  renameSync(join(repo.path, 'Case'), join(repo.path, 'case'));
  repo.git('add', '-A');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect([read('target/inner'), read('link/inner'), read('e/inner')]).toEqual([
    'kept\n',
    'below\n',
    'kept\n',
  ]);
  expect(readdirSync(copy.path).sort()).toEqual(readdirSync(repo.path).sort());

  repo.git('reset', '-q', '--hard');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(readdirSync(copy.path).sort()).toEqual(readdirSync(repo.path).sort());
  expect((await fixture.export()).files).toEqual([]);
});

test('files may be called as what every object has', async () => {
  const { repo, copy } = fixture;
  const names = ['constructor', 'toString', '__proto__', 'hasOwnProperty'];
  for (const name of names) repo.write(name, 'one\n');
  repo.commit('first');
  await fixture.prepare();
  for (const name of names) repo.write(name, 'two\n');
  repo.git('add', '-A');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  for (const name of names) copy.write(name, 'three\n');
  await fixture.apply();
  for (const name of names) expect(readFileSync(join(repo.path, name), 'utf8')).toBe('three\n');
});
