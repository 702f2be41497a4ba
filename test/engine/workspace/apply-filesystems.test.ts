import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createRepo, openRepo, wholeTree } from '../../support/git-repo.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { changeAll, fill } from './changed-tree.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

test('on a disk that is full, nothing is written, and it says so', async (context) => {
  await withSmallDisk(context, '8m', async (disk) => {
    const repo = createRepo(join(disk.path, 'project'));
    fill(repo);
    await fixture.prepare({ path: repo.path });
    changeAll(fixture.copy);
    fixture.copy.write('large', Buffer.alloc(2 * 1024 * 1024, 'x'));
    disk.fill();
    const before = wholeTree(repo.path);
    await expect(fixture.apply({ path: repo.path })).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringMatching(/(?:full|No space left).*nothing was written/s),
    });
    expect(wholeTree(repo.path)).toBe(before);
    disk.makeRoom();
    await fixture.apply({ path: repo.path });
    expect(readFileSync(join(repo.path, 'edited'), 'utf8')).toBe('guest\n');
  });
});

test('a tree on another filesystem than its repository is written all the same', async (context) => {
  await withSmallDisk(context, '8m', async (disk) => {
    const path = join(disk.path, 'project');
    mkdirSync(path);
    openRepo(path).git('init', '-q', '--separate-git-dir', join(fixture.directory, 'apart.git'));
    const repo = createRepo(path);
    fill(repo);
    await fixture.prepare({ path: repo.path });
    changeAll(fixture.copy);
    await fixture.apply({ path: repo.path });
    expect(readFileSync(join(repo.path, 'edited'), 'utf8')).toBe('guest\n');
    expect(repo.git('status', '--porcelain', '--untracked-files=all')).not.toContain('banger');
  });
});

test('a tree with another filesystem inside is written all the same', async (context) => {
  await withSmallDisk(context, '8m', async (disk) => {
    const { repo, copy } = fixture;
    fill(repo);
    execFileSync('mount', ['--bind', disk.path, join(repo.path, 'becomes-file')]);
    try {
      repo.write('becomes-file/inner', 'inner\n');
      await fixture.prepare();
      copy.write('becomes-file/inner', 'guest\n');
      copy.write('becomes-file/new', 'guest\n');
      await fixture.apply();
      expect(readFileSync(join(disk.path, 'inner'), 'utf8')).toBe('guest\n');
      expect(readdirSync(disk.path).toSorted()).toEqual(['inner', 'new']);
    } finally {
      execFileSync('umount', [join(repo.path, 'becomes-file')]);
    }
  });
});
