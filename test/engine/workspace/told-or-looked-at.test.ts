import {
  cpSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { randomOf, writer } from './random-edits.ts';
import { createToldTree, exportedPaths, type ToldTree } from './told-tree.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 120_000 });

let tree: ToldTree;
beforeEach(() => {
  tree = createToldTree();
});
afterEach(() => tree.remove());

test.each([
  ['of the same size and time', () => tree.inPlace('one', 'ONE\n')],
  [
    'that another of the same size and time took the place of',
    () => {
      writeFileSync(tree.at('one.new'), 'ONE\n');
      const { atime, mtime } = statSync(tree.at('one'));
      utimesSync(tree.at('one.new'), atime, mtime);
      renameSync(tree.at('one.new'), tree.at('one'));
    },
  ],
])('a file %s is seen, which git alone may take for the one that was sent', async (_, change) => {
  await tree.sendTree();
  change();
  expect(exportedPaths(await tree.export())).toEqual(['modified one']);
  // Nor does a prepare that changes something else make it pass for what was sent.
  tree.repo.write('two', 'more\n');
  await tree.prepare();
  expect(exportedPaths(await tree.export())).toEqual(['modified one']);
  tree.repo.write('one', 'from the host\n');
  await expect(tree.prepare()).rejects.toThrow('changes that would be lost: "one"');
});

test.each<[string, () => void]>([
  ['other things are ignored', () => tree.copy.write('.gitignore', 'one\n')],
  ['other things are ignored in a directory', () => tree.copy.write('dir/.gitignore', '!made.log\n')],
  ['other things are ignored in this repository', () => tree.copy.write('.git/info/exclude', 'x\n')],
  ['files are read in another way', () => tree.copy.write('.gitattributes', '* text\n')],
  ['settings are others', () => tree.copy.git('config', 'core.fileMode', 'false')],
  ['there is a repository inside', () => tree.copy.git('init', '-q', 'built/inner')],
  ['there is what git does not know', () => tree.copy.git('-c', 'alias.f=!mkfifo dir/fifo', 'f')],
  [
    'very much has changed',
    () => {
      for (let count = 0; count < 1001; count++) tree.copy.write(`many/${count}`, `${count}\n`);
    },
  ],
  [
    'the clock was set',
    () => {
      const mark = tree.at('.git/banger-quiet');
      const { atime, mtime } = statSync(mark);
      const content = readFileSync(mark);
      content.writeBigInt64LE(content.readBigInt64LE() + 1_000_000_000n);
      writeFileSync(mark, content);
      utimesSync(mark, atime, mtime);
    },
  ],
  ['the disk was put back', () => tree.copy.write('.git/banger-sent', 'another\n')],
  ['nobody knows how it was', () => rmSync(tree.at('.git/banger-quiet'))],
  [
    'files are left out of the tree',
    () => {
      tree.copy.git('update-index', '--skip-worktree', 'dir/two');
      rmSync(tree.at('dir/two'));
    },
  ],
  [
    'what was sent changed places with what was not',
    () => {
      renameSync(tree.at('dir/deep'), tree.at('dir/x'));
      renameSync(tree.at('dir/old.log/deep'), tree.at('dir/deep'));
      renameSync(tree.at('dir/x'), tree.at('dir/old.log/deep'));
    },
  ],
  ['it is made sparse', () => tree.copy.git('sparse-checkout', 'set', '--no-cone', '/one')],
])('git looks at all of it where %s', async (_, change) => {
  await tree.sendTree();
  tree.inPlace('one', 'edited\n');
  change();
  const { byLook, exported } = await tree.exportBothWays();
  expect(exportedPaths(exported)).toContain('modified one');
  expect(byLook).toBe(false);
});

test('rules in a directory that is all new are those of it alone', async () => {
  await tree.sendTree();
  tree.copy.write('cache/.gitignore', '*\n');
  tree.copy.write('cache/x', 'x\n');
  tree.copy.write('other/.gitignore', 'x\n');
  tree.copy.write('other/x', 'x\n');
  tree.copy.write('other/y', 'y\n');
  const { byLook, exported } = await tree.exportBothWays();
  expect(exportedPaths(exported)).toEqual(['added other/.gitignore', 'added other/y']);
  expect(byLook).toBe(true);
});

test('rules that go from a directory that was never sent, since they ignored all of it, are missed by git', async () => {
  await tree.sendTree();
  tree.copy.write('cache/.gitignore', '*\n');
  tree.copy.write('cache/x', 'x\n');
  await tree.prepare();
  await tree.prepare();
  rmSync(tree.at('cache/.gitignore'));
  const { byLook, exported } = await tree.exportBothWays();
  expect(exportedPaths(exported)).toEqual(['added cache/x']);
  expect(byLook).toBe(false);
});

// On a busy host a prepare has met an index that was written at that moment, and said so: it is asked again then.
test(
  'what is behind a filter is not read without it, and line ends are as git has them',
  { retry: 2 },
  async () => {
    const { repo, copy } = tree;
    // Git writes an index anew, and so changes it, as long as it is of the same second as a file that is in it.
    const prepareLater = async (params?: Parameters<ToldTree['prepare']>[0]): Promise<unknown> => {
      await sleep(1_100);
      return tree.prepare(params);
    };
    repo.git('config', 'filter.up.clean', 'tr a-z A-Z');
    repo.git('config', 'filter.up.smudge', 'tr A-Z a-z');
    repo.write('.gitattributes', '*.up filter=up\n*.txt text eol=crlf\n');
    repo.write('a.up', 'abc\n');
    repo.write('b.txt', 'one\r\ntwo\r\n');
    repo.write('c', 'one\r\ntwo\r\n');
    repo.commit('first');
    await prepareLater();
    await prepareLater();
    repo.write('a.up', 'abcd\n');
    repo.commit('second');
    await prepareLater();
    expect(exportedPaths((await tree.exportBothWays()).exported)).toEqual([]);
    copy.write('b.txt', 'one\r\n2\r\n');
    copy.write('c', 'one\r\n2\r\n');
    expect(exportedPaths((await tree.exportBothWays()).exported)).toEqual(['modified b.txt', 'modified c']);
    await prepareLater({ overwrite: true });
    await prepareLater();
    copy.write('b.txt', 'one\r\n2\r\n');
    const { byLook, exported } = await tree.exportBothWays();
    expect(exportedPaths(exported)).toEqual(['modified b.txt']);
    expect(byLook).toBe(true);
  },
);

test.each([
  ['a file', 'rm -f one; mkdir one'],
  ['its directory', 'mv dir away; ln -s away dir'],
])('what becomes another thing after the look is seen by git: %s', async (_, script) => {
  await tree.sendTree();
  for (const path of ['one', 'dir/two', 'dir/deep/three']) tree.inPlace(path, 'edited\n');
  writeFileSync(
    tree.onGit,
    `if [ ! -e ${tree.outside}.done ]; then : >${tree.outside}.done; (cd ${tree.copy.path}; ${script}); fi\n`,
  );
  const first = await tree.export();
  expect((await tree.exportBothWays()).exported).toEqual(first);
});

test('a guest whose git does nothing of the kind is looked at as ever', async () => {
  await tree.sendTree();
  tree.inPlace('one', 'edited\n');
  writeFileSync(
    tree.onGit,
    `case "$*" in *update-index*) [ -e ${tree.outside}.done ] || { : >${tree.outside}.done; exit 1; } ;; esac\n`,
  );
  const { byLook, exported } = await tree.exportBothWays();
  expect(exportedPaths(exported)).toEqual(['modified one']);
  expect(byLook).toBe(false);
});

test('export leaves nothing behind but what it knows, and the index alone', async () => {
  await tree.sendTree();
  tree.inPlace('one', 'edited\n');
  const before = {
    index: statSync(tree.at('.git/index')).ino,
    mark: readFileSync(tree.at('.git/banger-quiet')),
  };
  await tree.export();
  expect(statSync(tree.at('.git/index')).ino).toBe(before.index);
  expect(readFileSync(tree.at('.git/banger-quiet'))).toEqual(before.mark);
  const left = tree.copy.git('-c', 'alias.l=!ls .git', 'l').split('\n');
  expect(left.filter((name) => /banger-(?:export|looked)/.test(name))).toEqual([]);
});

// More of the same: BANGER_TEST_SEEDS=1-50 vitest run --project unit test/engine/workspace/told-or-looked-at.test.ts
const [first = 1, last = first] = (process.env['BANGER_TEST_SEEDS'] ?? '1').split('-').map(Number);
const seeds = Array.from({ length: last - first + 1 }, (_, index) => first + index);

test.each(seeds)('whatever is done in a guest, its look tells what git sees (seed %i)', async (seed) => {
  await tree.sendTree();
  const random = randomOf(seed);
  const write = writer(random);
  let byLook = 0;
  for (let step = 0; step < 6; step++) {
    for (let count = random(5); count > 0; count--) write.edit(tree.copy.path, 'guest');
    if (random(3) === 0) tree.copy.git('add', '-A');
    if (random(4) === 0) tree.copy.git('commit', '-q', '--allow-empty', '-m', `${step}`);
    if (random(3) === 0) {
      // Over and away, to be there at the next step, too.
      cpSync(tree.at(''), join(tree.outside, `${step}`), {
        recursive: true,
        filter: (path) => !path.includes('.git'),
      });
    }
    if (random(4) === 0 && existsSync(tree.at('d'))) {
      rmSync(tree.at('d'), { recursive: true });
      const kept = join(tree.outside, `${step - 1}`, 'd');
      if (existsSync(kept)) renameSync(kept, tree.at('d'));
    }
    if (random(4) === 0) await tree.prepare({ policy: 'keep' });
    if ((await tree.exportBothWays()).byLook) byLook++;
  }
  expect(byLook).toBeGreaterThan(0);
});
