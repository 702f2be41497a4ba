import {
  appendFileSync,
  chmodSync,
  cpSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { isAsSent, lookProgram } from '../../../src/engine/workspace/guest-tree/quick-look.ts';
import { readManifest } from '../../../src/engine/workspace/sending/manifest.ts';
import { manifestPlace } from '../../../src/engine/workspace/sending/settle-sends.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo, copy } = fixture;
  repo.write('.gitignore', '*.log\nbuilt/\n');
  for (const name of ['one', 'dir/two', 'dir/deep/three', 'run']) repo.write(name, `${name}\n`);
  repo.write('run', '#!/bin/sh\n', 0o755);
  symlinkSync('one', join(repo.path, 'link'));
  repo.commit('first');
  await fixture.prepare();
  cpSync(at('dir'), join(fixture.directory, 'older'), { recursive: true });
  writeFileSync(join(fixture.directory, 'older/deep/three'), 'dir/deep/older\n');
  // What git ignores does not come between.
  copy.write('dir/made.log', 'x\n');
  copy.write('built/deep/out', 'x\n');
  // Git looks once, and finds nothing.
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const at = (path: string): string => join(fixture.copy.path, path);

async function known() {
  const [workspace] = listWorkspaces(fixture.context.db, vmId);
  const manifest = await readManifest(manifestPlace(fixture.context.layout, workspace!), workspace!);
  return { ...workspace!, files: manifest!.files, signal: new AbortController().signal };
}

async function asSent(): Promise<boolean> {
  const guest = await fixture.context.guest({} as never, new AbortController().signal);
  return isAsSent({ guest, ...(await known()) });
}

/** Programs of the last `prepare` in which git looks at all of the workspace. */
function looksOfGit(since: number): number {
  return fixture.commands.slice(since).filter((argv) => argv.join(' ').includes('add -A')).length;
}

test('where nobody has changed anything git is not asked, however often something was sent', async () => {
  const { repo, copy, commands } = fixture;
  for (let round = 0; round < 3; round++) {
    repo.write('one', `round ${round}\n`);
    repo.write('dir/deep/three', `round ${round}\n`);
    repo.write(`dir/new-${round}`, 'new\n');
    repo.git('add', '-N', '.');
    if (round > 0) rmSync(join(repo.path, `dir/new-${round - 1}`));
    await fixture.prepare();
    expect(copy.git('status', '--porcelain')).toBe(repo.git('status', '--porcelain'));
    // Whoever looks with git writes its index anew.
    await fixture.prepare();
    const before = commands.length;
    repo.write('run', `#!/bin/sh\n# ${round}\n`, 0o755);
    await fixture.prepare();
    expect(looksOfGit(before)).toBe(0);
    expect(readFileSync(at('run'), 'utf8')).toBe(`#!/bin/sh\n# ${round}\n`);
  }
  expect(await asSent()).toBe(true);
  expect((await fixture.export()).files).toEqual([]);
});

test('a tree that is sent again takes a dozen programs on the host, of which none reads all of it twice', async () => {
  const { context, repo } = fixture;
  await fixture.prepare();
  repo.write('one', 'changed\n');
  const asked: string[] = [];
  const { exec } = context;
  Object.assign(context, {
    exec: ((argv, options) => {
      asked.push(argv.join(' '));
      return exec(argv, options);
    }) satisfies typeof exec,
  });
  await fixture.prepare();
  expect(asked.length).toBeLessThanOrEqual(12);
  expect(asked.filter((line) => / ls-files -s .*-z(?: --)?$/.test(line))).toHaveLength(1);
  expect(fixture.copy.git('status', '--porcelain')).toBe(repo.git('status', '--porcelain'));
});

test.each<[string, () => void]>([
  ['an edited file', () => appendFileSync(at('one'), 'more\n')],
  [
    'one of the same size and age',
    () => {
      const { atime, mtime } = statSync(at('dir/deep/three'));
      writeFileSync(at('dir/deep/three'), 'dir/deep/THREE\n');
      utimesSync(at('dir/deep/three'), atime, mtime);
    },
  ],
  ['a file that is gone', () => rmSync(at('dir/two'))],
  ['a directory that is gone', () => rmSync(at('dir/deep'), { recursive: true })],
  ['a new file', () => writeFileSync(at('dir/new'), 'x\n')],
  ['one that git ignores', () => writeFileSync(at('dir/new.log'), 'x\n')],
  ['a new directory', () => mkdirSync(at('dir/empty'))],
  ['a file that may be run', () => chmodSync(at('one'), 0o755)],
  ['one that may not be any more', () => chmodSync(at('run'), 0o644)],
  [
    'a link that leads elsewhere',
    () => {
      rmSync(at('link'));
      symlinkSync('dir', at('link'));
    },
  ],
  ['a file with another name', () => renameSync(at('one'), at('uno'))],
  ['a directory with another name', () => renameSync(at('dir/deep'), at('dir/shallow'))],
  [
    'an older copy of a directory in its place',
    () => {
      rmSync(at('dir/deep'), { recursive: true });
      renameSync(join(fixture.directory, 'older/deep'), at('dir/deep'));
    },
  ],
  [
    'an older copy of a directory and all above it',
    () => {
      rmSync(at('dir'), { recursive: true });
      renameSync(join(fixture.directory, 'older'), at('dir'));
    },
  ],
  ['an old directory that git ignored', () => renameSync(at('built/deep'), at('dir/moved'))],
  ['an old file that git ignored', () => renameSync(at('dir/made.log'), at('dir/made'))],
  ['a second name of an old file', () => linkSync(at('dir/made.log'), at('dir/made'))],
  ['a file that was forced into the index', () => fixture.copy.git('add', '-f', 'dir/made.log')],
  [
    'a file that git is told not to look at',
    () => fixture.copy.git('update-index', '--skip-worktree', 'one'),
  ],
  ['another branch', () => fixture.copy.git('switch', '-q', '-c', 'mine')],
  ['a commit', () => fixture.copy.git('commit', '-q', '--allow-empty', '-m', 'mine')],
  ['a branch that was moved', () => fixture.copy.git('branch', 'other')],
  ['a merge under way', () => writeFileSync(at('.git/MERGE_HEAD'), `${'0'.repeat(40)}\n`)],
  ['other things to ignore', () => writeFileSync(at('.git/info/exclude'), 'x\n')],
  ['a repository inside', () => mkdirSync(at('built/deep/.git'))],
  ['a fifo', () => void fixture.copy.git('-c', 'alias.f=!mkfifo dir/fifo', 'f')],
])('git looks where there is %s', async (_, change) => {
  expect(await asSent()).toBe(true);
  change();
  expect(await asSent()).toBe(false);
});

test('times say nothing when the clock has been set, or the disk put back', async () => {
  const mark = at('.git/banger-quiet');
  const { atime, mtime } = statSync(mark);
  const content = readFileSync(mark);
  const write = (nanoseconds: bigint): void => {
    const other = Buffer.from(content);
    other.writeBigInt64LE(content.readBigInt64LE() + nanoseconds);
    writeFileSync(mark, other);
    utimesSync(mark, atime, mtime);
  };
  write(1_000_000n);
  expect(await asSent()).toBe(true);
  write(1_000_000_000n);
  expect(await asSent()).toBe(false);
  write(0n);
  expect(await asSent()).toBe(true);
  writeFileSync(at('.git/banger-sent'), 'another\n');
  expect(await asSent()).toBe(false);
});

test.each([
  ['nothing', ''],
  ['no end', 'd\\0'],
  ['a file that was not sent', `f${'0'.repeat(40)}../../x\\0.\\0`],
  ['no names', 'ddir/\\0.\\0'],
  ['something else', 'x\\0y\\0.\\0'],
])('a guest that answers with %s is looked at by git', async (_, answer) => {
  const programs = join(fixture.directory, 'programs');
  mkdirSync(programs);
  const program = join(programs, lookProgram.slice(lookProgram.lastIndexOf('/')));
  writeFileSync(program, `#!/bin/sh\nprintf '${answer}'\n`, { mode: 0o755 });
  const { guest } = createFakeGuest({ programs });
  expect(await isAsSent({ guest, ...(await known()) })).toBe(false);
});
