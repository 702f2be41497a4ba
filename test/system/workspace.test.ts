import { execFileSync } from 'node:child_process';
import { cpSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collect, openBanger, until } from '../support/banger.ts';
import { createRepo, openRepo } from '../support/git-repo.ts';
import { busyboxTar } from '../support/images.ts';

const banger = openBanger();
const tree = join(banger.home, 'tree');

/** Everything in a tree but git's own: kind, mode, and hash or target. */
const listing = `find . -path ./.git -prune -o -type l -exec sh -c 'echo "$1 -> $(readlink "$1")"' - {} \\; -o -type f -exec sh -c 'test -x "$1" && x=x || x=-; echo "$1 $x $(sha256sum <"$1")"' - {} \\; | sort`;

beforeAll(async () => {
  await banger.ok(['image', 'import', await busyboxTar(), '--name', 'tiny']);
  makeDirtyTree();
});
afterAll(() => banger[Symbol.asyncDispose]());

describe.each([['base'], ['tiny']])('in the image %s', (image) => {
  const prepare = (): Promise<string> => banger.ok(['workspace', 'prepare', tree, '--vm', image]);
  const inTree = (script: string): Promise<string> =>
    banger.ok(['vm', 'exec', '-w', '/root/tree', image, '--', 'sh', '-c', script]);

  beforeAll(() => banger.ok(['vm', 'create', '--name', image, '--image', image]));
  afterAll(() => banger.ok(['vm', 'delete', image]));

  test('a tree with all kinds of changes arrives exactly', async () => {
    expect(await prepare()).toBe(`${image}:/root/tree`);
    expect(await inTree(listing)).toBe(onHost(listing));
  });

  // The other one has no git, which is its point.
  if (image === 'base') {
    test('git in the guest sees what git on the host sees', async () => {
      const status =
        'git status --porcelain=v2 --branch --untracked-files=no; git log --oneline; git stash list';
      expect(await inTree(status)).toBe(onHost(status));
    });
  }

  test('what changes there comes back as a patch that applies', async () => {
    await inTree(
      'echo more >>plain.txt; rm "sp ace/ünï.txt"; printf "a\\0b" >binary; chmod +x staged.txt; ln -sf run.sh link',
    );
    const patch = await banger.run(['workspace', 'export', tree]);
    expect(patch.code, patch.stderr).toBe(0);

    const copy = `${tree}-${image}`;
    cpSync(tree, copy, { recursive: true, verbatimSymlinks: true });
    execFileSync('git', ['apply', '--binary'], { cwd: copy, input: patch.bytes });
    expect(execFileSync('sh', ['-c', listing], { cwd: copy }).toString().trim()).toBe(await inTree(listing));
  });

  if (image === 'base') {
    test('Ctrl-C while much is sent says so, and leaves the tree that was there and nothing else', async () => {
      const large = join(tree, 'large');
      writeFileSync(large, '');
      truncateSync(large, 512 * 1024 ** 2);
      const child = banger.start([
        'workspace',
        'prepare',
        tree,
        '--vm',
        image,
        '--include-untracked',
        '--json',
      ]);
      let told = '';
      child.stderr!.on('data', (chunk: Buffer) => (told += chunk.toString()));
      const ended = collect(child);
      await until('a part of it has been sent', () => /"done":[1-9]\d{6}/.test(told));
      child.kill('SIGINT');
      const { code, stderr } = await ended;
      rmSync(large);
      expect(code).toBe(130);
      expect(stderr).not.toContain('bug');
      expect(await inTree('ls -A .. .git | grep -e banger-new -e banger-next; git fsck --no-dangling')).toBe(
        '',
      );
      expect(await inTree('ls')).not.toContain('large');
    });
  }

  test('what changes there is merged into the tree here', async () => {
    const mine = `${tree}/mine-${image}.txt`;
    writeFileSync(mine, 'only here\n');
    const before = onHost('git ls-files -s');
    const trial = await banger.run(['workspace', 'apply', tree, '--vm', image, '--dry-run']);
    expect(trial).toMatchObject({ code: 0 });
    expect(trial.stdout).toContain('plain.txt');
    expect(onHost('cat plain.txt')).not.toContain('more');

    await banger.ok(['workspace', 'apply', tree, '--vm', image]);
    rmSync(mine);
    expect(onHost(listing)).toBe(await inTree(listing));
    expect(onHost('git ls-files -s')).toBe(before);

    // What was applied is known of the VM, which goes on from there.
    await inTree('echo later >> plain.txt');
    const later = await banger.ok(['workspace', 'apply', tree, '--vm', image]);
    expect(later).not.toContain('CONFLICT');
    expect(onHost('tail -n 1 plain.txt')).toBe('later');
    // The next image starts from the tree as it was made.
    rmSync(tree, { recursive: true });
    makeDirtyTree();
  });
});

function onHost(script: string): string {
  return execFileSync('sh', ['-c', script], { cwd: tree }).toString().trim();
}

function makeDirtyTree(): void {
  const repo = createRepo(tree);
  for (const name of [
    'plain.txt',
    'staged.txt',
    'both.txt',
    'gone.txt',
    'removed.txt',
    'old.txt',
    'sp ace/ünï.txt',
  ])
    repo.write(name, `${name}\n`.repeat(5));
  repo.write('run.sh', '#!/bin/sh\necho run\n', 0o755);
  repo.write('plain-to-run.sh', '#!/bin/sh\n');
  symlinkSync('plain.txt', join(tree, 'link'));
  repo.commit('all kinds of files');
  repo.write('staged.txt', 'staged\n');
  repo.write('both.txt', 'staged\n');
  repo.write('new.txt', 'new\n');
  repo.git('add', 'staged.txt', 'both.txt', 'new.txt');
  repo.write('both.txt', 'staged, then changed\n');
  repo.write('plain.txt', 'changed\n');
  repo.write('plain-to-run.sh', '#!/bin/sh\n', 0o755);
  repo.write('untracked.txt', 'stays here\n');
  repo.git('rm', '-q', 'removed.txt');
  repo.git('mv', 'old.txt', 'renamed.txt');
  rmSync(join(tree, 'gone.txt'));
  symlinkSync('no/such/target', join(tree, 'dangling'));
  repo.git('add', 'dangling');
  expect(openRepo(tree).git('status', '--short').trim().split('\n')).toHaveLength(10);
  rmSync(join(tree, 'untracked.txt'));
}
