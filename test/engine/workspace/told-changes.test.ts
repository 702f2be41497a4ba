import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createToldTree, exportedPaths, type ToldTree } from './told-tree.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 120_000 });

let tree: ToldTree;
beforeEach(() => {
  tree = createToldTree();
});
afterEach(() => tree.remove());

test.each<[string, () => void, string[]]>([
  ['nothing', () => undefined, []],
  ['an edited file', () => appendFileSync(tree.at('one'), 'more\n'), ['modified one']],
  ['one from long ago', () => tree.inPlace('dir/two', 'older\n', 1), ['modified dir/two']],
  ['one that the last update wrote', () => tree.inPlace('two', 'edited\n'), ['modified two']],
  [
    'a file that another took the place of',
    () => {
      writeFileSync(tree.at('one.new'), 'another\n');
      const { atime, mtime } = statSync(tree.at('one'));
      utimesSync(tree.at('one.new'), atime, mtime);
      renameSync(tree.at('one.new'), tree.at('one'));
    },
    ['modified one'],
  ],
  ['a file that is gone', () => rmSync(tree.at('dir/two')), ['deleted dir/two']],
  [
    'a directory that is gone',
    () => rmSync(tree.at('dir/deep'), { recursive: true }),
    ['deleted dir/deep/er/four', 'deleted dir/deep/three'],
  ],
  ['a new file', () => writeFileSync(tree.at('dir/new'), 'x\n'), ['added dir/new']],
  ['an empty one', () => writeFileSync(tree.at('dir/new'), ''), ['added dir/new']],
  ['one that git ignores', () => writeFileSync(tree.at('dir/new.log'), 'x\n'), []],
  ['a new directory', () => tree.copy.write('a/b/c', 'x\n'), ['added a/b/c']],
  ['an empty directory', () => mkdirSync(tree.at('dir/empty')), []],
  ['a file that may be run', () => chmodSync(tree.at('one'), 0o755), ['modified one']],
  ['one that may not be any more', () => chmodSync(tree.at('run'), 0o644), ['modified run']],
  [
    'a link that leads elsewhere',
    () => {
      rmSync(tree.at('link'));
      symlinkSync('two', tree.at('link'));
    },
    ['modified link'],
  ],
  [
    'a file that is a link now',
    () => {
      rmSync(tree.at('one'));
      symlinkSync('two', tree.at('one'));
    },
    ['type-changed one'],
  ],
  [
    'a file that is a directory now',
    () => {
      rmSync(tree.at('one'));
      tree.copy.write('one/inner', 'x\n');
    },
    ['deleted one', 'added one/inner'],
  ],
  [
    'a directory that is a file now',
    () => {
      rmSync(tree.at('dir/deep'), { recursive: true });
      writeFileSync(tree.at('dir/deep'), 'x\n');
    },
    ['added dir/deep', 'deleted dir/deep/er/four', 'deleted dir/deep/three'],
  ],
  [
    'a directory that is a link to another now',
    () => {
      renameSync(tree.at('dir/deep'), join(tree.directory, 'away'));
      symlinkSync(join(tree.directory, 'away'), tree.at('dir/deep'));
    },
    ['added dir/deep', 'deleted dir/deep/er/four', 'deleted dir/deep/three'],
  ],
  [
    'a file with another name',
    () => renameSync(tree.at('one'), tree.at('uno')),
    ['deleted one', 'added uno'],
  ],
  [
    'a directory with another name',
    () => renameSync(tree.at('dir/deep'), tree.at('deep')),
    ['added deep/er/four', 'added deep/three', 'deleted dir/deep/er/four', 'deleted dir/deep/three'],
  ],
  [
    'an older copy of a directory in its place',
    () => {
      rmSync(tree.at('dir/deep'), { recursive: true });
      renameSync(join(tree.outside, 'deep'), tree.at('dir/deep'));
    },
    ['modified dir/deep/three'],
  ],
  [
    'an older copy of a directory and all above it',
    () => {
      rmSync(tree.at('dir'), { recursive: true });
      renameSync(tree.outside, tree.at('dir'));
    },
    ['modified dir/deep/three'],
  ],
  [
    'what git ignored, in a place where it does not',
    () => {
      renameSync(tree.at('built'), tree.at('shown'));
      renameSync(tree.at('dir/made.log'), tree.at('dir/made'));
    },
    ['added dir/made', 'added shown/deep/out'],
  ],
  [
    'a second name of an old file',
    () => linkSync(tree.at('dir/made.log'), tree.at('dir/made')),
    ['added dir/made'],
  ],
  ['a sent file that git would ignore', () => tree.inPlace('kept.log', 'changed\n'), ['modified kept.log']],
  [
    'an old file that was forced into the index',
    () => tree.copy.git('add', '-f', 'dir/made.log'),
    ['added dir/made.log'],
  ],
  [
    'an old file that is meant to be added',
    () => tree.copy.git('add', '-f', '-N', 'dir/made.log'),
    ['added dir/made.log'],
  ],
  [
    'a file that git is told not to look at',
    () => {
      tree.copy.git('update-index', '--assume-unchanged', 'one');
      tree.inPlace('one', 'edited\n');
    },
    ['modified one'],
  ],
  [
    'commits, and what is staged',
    () => {
      tree.copy.write('new', 'x\n');
      tree.inPlace('one', 'edited\n');
      tree.copy.git('add', '.');
      tree.copy.git('commit', '-qm', 'mine');
      tree.copy.git('switch', '-qc', 'mine');
      tree.inPlace('dir/two', 'staged\n');
      tree.copy.git('add', '.');
      tree.inPlace('dir/two', 'loose\n');
    },
    ['modified dir/two', 'added new', 'modified one'],
  ],
  [
    'a merge under way',
    () => {
      tree.inPlace('one', 'edited\n');
      writeFileSync(tree.at('.git/MERGE_HEAD'), `${tree.copy.git('rev-parse', 'HEAD').trim()}\n`);
    },
    ['modified one'],
  ],
  [
    'names that are none to a shell, or in no language',
    () => {
      for (const name of ['a b', '-n', '"q"', 'a\nb', ':(top)x', '*', 'é'])
        writeFileSync(tree.at(`dir/${name}`), 'x\n');
      writeFileSync(Buffer.concat([Buffer.from(tree.at('dir/')), Buffer.from([0xff, 0xfe])]), 'x\n');
    },
    [
      'added dir/"q"',
      'added dir/*',
      'added dir/-n',
      'added dir/:(top)x',
      'added dir/a\nb',
      'added dir/a b',
      'added dir/é',
      'added "dir/\\377\\376"',
    ].sort(),
  ],
])('without a look by git, an export has %s', async (_, change, expected) => {
  await tree.sendTree();
  change();
  const { byLook, exported } = await tree.exportBothWays();
  expect(exportedPaths(exported).sort()).toEqual(expected.sort());
  expect(byLook).toBe(true);
  // Once more, after what was found out has been kept.
  expect((await tree.exportBothWays()).exported).toEqual(exported);
});
