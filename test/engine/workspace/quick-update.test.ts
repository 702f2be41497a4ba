import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { updateNames } from '../../../src/engine/workspace/sending/update-script.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  repo.write('.gitignore', 'ignored\nout/\n');
  repo.write('one', '1\n');
  repo.write('dir/two', '2\n');
  repo.write('dir/gone', '3\n');
  repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

/** Prepares again, and tells whether one program in the guest was enough. */
async function prepareAgain(): Promise<{ quick: boolean; kept: readonly string[] | undefined }> {
  const before = fixture.commands.length;
  const { update } = await fixture.prepare();
  const isMark = existsSync(join(fixture.copy.path, updateNames.clean));
  const quick = fixture.commands.length === before + 1;
  expect(existsSync(join(fixture.copy.path, updateNames.part))).toBe(false);
  return { quick: quick && isMark, kept: update?.kept };
}

/** Git, which reads everything, finds both sides equal. */
function expectEqual(): void {
  const { repo, copy } = fixture;
  expect(copy.git('status', '--porcelain')).toBe(repo.git('status', '--porcelain'));
  for (const path of repo.git('ls-files').split('\n').filter(Boolean)) {
    if (!existsSync(join(repo.path, path))) expect(existsSync(join(copy.path, path))).toBe(false);
    else expect(readFileSync(join(copy.path, path))).toEqual(readFileSync(join(repo.path, path)));
  }
}

test('edited, removed and made executable: one program in the guest, as often as one likes', async () => {
  const { repo, copy } = fixture;
  repo.write('one', 'edited\n');
  rmSync(join(repo.path, 'dir/gone'));
  chmodSync(join(repo.path, 'dir/two'), 0o755);
  expect(await prepareAgain()).toEqual({ quick: true, kept: [] });
  expectEqual();
  repo.write('one', 'edited again\n');
  expect(await prepareAgain()).toEqual({ quick: true, kept: [] });
  expectEqual();
  copy.write('dir/two', 'from the guest\n');
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['dir/two']);
});

test('what is ignored in a directory of its own is no reason to look closer', async () => {
  const { repo, copy } = fixture;
  copy.write('out/first', 'x\n');
  repo.write('one', 'edited\n');
  // The directory is new to the top one.
  expect((await prepareAgain()).quick).toBe(false);
  copy.write('out/second', 'x\n');
  repo.write('one', 'edited again\n');
  expect(await prepareAgain()).toEqual({ quick: true, kept: [] });
});

test('what the guest has changed is kept, and said each time', async () => {
  const { repo, copy } = fixture;
  copy.write('dir/two', 'from the guest\n');
  repo.write('one', 'edited\n');
  expect(await prepareAgain()).toEqual({ quick: false, kept: ['dir/two'] });
  repo.write('one', 'edited again\n');
  expect(await prepareAgain()).toEqual({ quick: false, kept: ['dir/two'] });
  copy.write('dir/two', '2\n');
  repo.write('one', 'and again\n');
  expect(await prepareAgain()).toEqual({ quick: false, kept: [] });
  repo.write('one', 'and at last\n');
  expect(await prepareAgain()).toEqual({ quick: true, kept: [] });
});

test.each<[string, () => void]>([
  ['an edit', () => fixture.copy.write('one', 'from the guest\n')],
  ['an edit of the same size that bears an older time', () => forge('one', '9\n', -60)],
  ['a file of another size that bears the same time', () => forge('one', 'from the guest\n', 0)],
  [
    'a file that is gone',
    () => {
      rmSync(join(fixture.copy.path, 'one'));
      setMarkBack();
    },
  ],
  [
    'a directory in its place',
    () => {
      rmSync(join(fixture.copy.path, 'one'));
      mkdirSync(join(fixture.copy.path, 'one'));
      fixture.copy.write('one/inner', 'x\n');
      setMarkBack();
    },
  ],
])('%s of a file that changed here stops it, though nothing seems to have happened', async (_, change) => {
  const { repo } = fixture;
  change();
  repo.write('one', 'edited\n');
  await expect(fixture.prepare()).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringContaining('would be lost: "one"') as string,
  });
});

test('a new file here stops it where the guest has one that it ignores', async () => {
  const { repo, copy } = fixture;
  copy.write('ignored', 'from the guest\n');
  setMarkBack();
  repo.write('ignored', 'x\n');
  await expect(fixture.prepare({ include: [join(repo.path, 'ignored')] })).rejects.toMatchObject({
    message: expect.stringContaining('would be lost: "ignored"') as string,
  });
  expect(readFileSync(join(copy.path, 'ignored'), 'utf8')).toBe('from the guest\n');
});

/** Makes the mark look newer than whatever happened. */
function setMarkBack(): void {
  const soon = new Date(Date.now() + 5_000);
  utimesSync(join(fixture.copy.path, updateNames.clean), soon, soon);
}

/** Writes a file as somebody would who hides it. */
function forge(path: string, content: string, laterSeconds: number): void {
  const file = join(fixture.copy.path, path);
  const { mtime } = statSync(file);
  fixture.copy.write(path, content);
  utimesSync(file, mtime, new Date(mtime.getTime() + laterSeconds * 1000));
}
