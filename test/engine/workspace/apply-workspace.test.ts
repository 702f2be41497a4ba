import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Exec } from '../../../src/host/exec.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { lines } from './changed-tree.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  for (const name of ['edited', 'both', 'clash', 'removed', 'mode', 'dirty', 'dir/deep'])
    repo.write(name, lines());
  repo.write('binary', Buffer.from([0, 1, 2, 255]));
  repo.write('.gitignore', 'ignored\n');
  repo.commit('first');
  repo.write('dirty', lines([1, 'dirty on the host']));
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const here = (name: string): string => readFileSync(join(fixture.repo.path, name), 'utf8');
const outcomes = ({ files }: Awaited<ReturnType<Fixture['apply']>>): string[] =>
  files.map(({ outcome, path }) => `${outcome} ${path}`);

test('changes of the guest arrive in the working tree, merged with what changed here; index and repository stay as they are', async () => {
  const { repo, copy } = fixture;
  copy.write('edited', lines([3, 'guest']));
  copy.git('commit', '-qam', 'in the guest');
  copy.write('both', lines([3, 'guest']));
  copy.write('dirty', lines([1, 'dirty on the host'], [20, 'guest']));
  copy.write('binary', Buffer.from([0, 9]));
  copy.write('new/file', 'new\n');
  symlinkSync('file', join(copy.path, 'new/link'));
  rmSync(join(copy.path, 'removed'));
  chmodSync(join(copy.path, 'mode'), 0o755);
  repo.write('both', lines([18, 'host']));
  repo.write('dirty', lines([1, 'dirty on the host'], [10, 'more on the host']));
  repo.git('add', 'both');
  const before = repo.snapshot();

  const result = await fixture.apply();
  expect(outcomes(result)).toEqual([
    'applied binary',
    'merged both',
    'merged dirty',
    'applied edited',
    'applied mode',
    'applied new/file',
    'applied new/link',
    'applied removed',
  ]);
  expect(result).toMatchObject({ isApplied: true, hasConflicts: false });
  expect(here('edited')).toBe(lines([3, 'guest']));
  expect(here('both')).toBe(lines([3, 'guest'], [18, 'host']));
  expect(here('dirty')).toBe(lines([1, 'dirty on the host'], [10, 'more on the host'], [20, 'guest']));
  expect(readFileSync(join(repo.path, 'binary'))).toEqual(Buffer.from([0, 9]));
  expect(readlinkSync(join(repo.path, 'new/link'))).toBe('file');
  expect(existsSync(join(repo.path, 'removed'))).toBe(false);
  expect(lstatSync(join(repo.path, 'mode')).mode & 0o777).toBe(0o755);
  expect(repo.snapshot()).toEqual(before);

  // Once more: everything is there.
  const again = await fixture.apply();
  expect(new Set(again.files.map(({ outcome }) => outcome))).toEqual(new Set(['present']));
});

test('a dry run says the same and writes nothing', async () => {
  fixture.copy.write('edited', lines([3, 'guest']));
  expect(await fixture.apply({ dryRun: true })).toMatchObject({
    isApplied: false,
    files: [{ path: 'edited', outcome: 'applied' }],
  });
  expect(here('edited')).toBe(lines());
});

test('with a conflict nothing is written, unless markers are asked for', async () => {
  const { repo, copy } = fixture;
  copy.write('clash', lines([5, 'guest']));
  copy.write('edited', lines([3, 'guest']));
  copy.write('removed', lines([5, 'guest']));
  copy.write('binary', Buffer.from([0, 7]));
  repo.write('clash', lines([5, 'host']));
  repo.write('binary', Buffer.from([0, 8]));
  rmSync(join(repo.path, 'removed'));

  const refused = await fixture.apply();
  expect(refused).toMatchObject({ isApplied: false, hasConflicts: true });
  expect(refused.files).toEqual([
    expect.objectContaining({
      path: 'binary',
      outcome: 'conflict',
      conflict: 'content',
      reason: 'Cannot merge binary files: binary (here vs. VM "web")',
    }),
    expect.objectContaining({
      path: 'clash',
      outcome: 'conflict',
      conflict: 'content',
      reason: 'Merge conflict in clash',
    }),
    expect.objectContaining({ path: 'edited', outcome: 'applied' }),
    expect.objectContaining({
      path: 'removed',
      outcome: 'conflict',
      conflict: 'modify/delete',
      reason: 'removed deleted here and modified in VM "web"',
    }),
  ]);
  expect(here('edited')).toBe(lines());
  expect(here('clash')).toBe(lines([5, 'host']));

  expect(await fixture.apply({ markers: true })).toMatchObject({ isApplied: true, hasConflicts: true });
  expect(here('edited')).toBe(lines([3, 'guest']));
  expect(here('clash')).toContain('<<<<<<< this tree\nhost\n=======\nguest\n>>>>>>> VM web\n');
  expect(readFileSync(join(repo.path, 'binary'))).toEqual(Buffer.from([0, 8]));
  // As git leaves it: the version that was modified.
  expect(here('removed')).toBe(lines([5, 'guest']));
});

test('a file that the guest made and the host ignores is in the way: nothing is written', async () => {
  const { repo, copy } = fixture;
  copy.write('edited', lines([3, 'guest']));
  copy.write('ignored', 'guest\n');
  copy.git('add', '-f', 'ignored');
  copy.git('commit', '-qm', 'forced');
  repo.write('ignored', 'precious\n');
  await expect(fixture.apply()).rejects.toThrow('in the way');
  expect(here('edited')).toBe(lines());
  expect(here('ignored')).toBe('precious\n');
});

test('a file where the host has a directory, and the other way round, is a conflict', async () => {
  const { repo, copy } = fixture;
  copy.write('spot', 'a file\n');
  copy.write('place/file', 'in a directory\n');
  repo.write('spot/file', 'in a directory\n');
  repo.write('place', 'a file\n');
  const { files } = await fixture.apply();
  expect(files.map(({ path, outcome, reason }) => [path, outcome, reason])).toEqual([
    ['place/file', 'conflict', 'file "place" in the way of place/file from VM "web"'],
    ['spot', 'conflict', 'directory in the way of spot from VM "web"'],
  ]);
});

test.each([
  ['/etc/passwd', 'out of the tree'],
  ['../outside', 'out of the tree'],
  ['dir/../../outside', 'out of the tree'],
  ['.git/config', 'out of the tree'],
])('a symlink to %s is refused', async (target, reason) => {
  fixture.copy.write('edited', lines([3, 'guest']));
  symlinkSync(target, join(fixture.copy.path, 'link'));
  await expect(fixture.apply()).rejects.toThrow(reason);
  expect(here('edited')).toBe(lines());
  expect(existsSync(join(fixture.repo.path, 'link'))).toBe(false);
});

test.each(['EDITED', 'DIR/other', 'new\u00e9'])(
  'a new file that differs from another by case alone is refused: %s',
  async (name) => {
    if (name.startsWith('new')) fixture.repo.write('newe\u0301', 'decomposed\n');
    fixture.copy.write(name, 'guest\n');
    await expect(fixture.apply()).rejects.toThrow('by case alone');
  },
);

test('nothing is written through a symlink of the host', async () => {
  const { repo, copy, directory } = fixture;
  copy.write('dir/new', 'guest\n');
  rmSync(join(repo.path, 'dir'), { recursive: true });
  mkdirSync(join(directory, 'elsewhere'));
  symlinkSync(join(directory, 'elsewhere'), join(repo.path, 'dir'));
  const { files } = await fixture.apply();
  expect(files).toEqual([
    expect.objectContaining({ path: 'dir/new', outcome: 'conflict', conflict: 'file/directory' }),
  ]);
  expect(existsSync(join(directory, 'elsewhere/new'))).toBe(false);
});

test('line ends that the host converts are written as it wants them', async () => {
  const { repo, copy } = fixture;
  repo.git('config', 'core.autocrlf', 'true');
  repo.write('dos', 'one\r\ntwo\r\n');
  repo.git('add', 'dos');
  await fixture.prepare({ overwrite: true });
  copy.write('dos', 'one\r\ntwo\r\nthree\r\n');
  await fixture.apply();
  expect(here('dos')).toBe('one\r\ntwo\r\nthree\r\n');
});

test('hooks, filters and attributes that the guest brings are not run', async () => {
  const { repo, copy, directory } = fixture;
  const proof = join(directory, 'ran');
  repo.git('config', 'filter.evil.smudge', `touch ${proof}; cat`);
  repo.git('config', 'filter.evil.clean', `touch ${proof}; cat`);
  copy.write('.gitattributes', '* filter=evil diff=evil merge=evil\n');
  copy.write('edited', lines([3, 'guest']));
  copy.write('.git/hooks/post-checkout', `#!/bin/sh\ntouch ${proof}\n`, 0o755);
  expect(outcomes(await fixture.apply())).toEqual(['applied .gitattributes', 'applied edited']);
  expect(here('edited')).toBe(lines([3, 'guest']));
  expect(existsSync(proof)).toBe(false);
});

test.each([
  [
    'other content than asked for',
    'oid=$(echo evil | $git hash-object -w --stdin); echo $oid | $git pack-objects --stdout -q',
    'without 1 of the files',
  ],
  ['half a pack', 'echo $wanted | $git pack-objects --stdout -q | head -c 40', 'a pack that git refuses'],
  ['a pack that is none', 'echo PACKnonsense', 'a pack that git refuses'],
])('a guest that answers with %s is refused', async (_, answer, message) => {
  fixture.copy.write('edited', lines([3, 'guest']));
  const programs = join(fixture.directory, 'programs');
  mkdirSync(programs);
  const git = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  writeFileSync(
    join(programs, 'git'),
    `#!/bin/sh\ncase "$*" in *pack-objects*) cd ${fixture.copy.path}; git=${git}; read wanted; ${answer};; *) exec ${git} "$@";; esac\n`,
    { mode: 0o755 },
  );
  const { guest } = createFakeGuest({ env: { PATH: `${programs}:${process.env['PATH']}` } });
  const context = { ...fixture.context, guest: async () => guest };
  await expect(fixture.apply({ context })).rejects.toThrow(message);
  expect(here('edited')).toBe(lines());
});

test('a tree that is no repository of its own any more is refused', async () => {
  const { repo, copy } = fixture;
  copy.write('edited', lines([3, 'guest']));
  rmSync(join(repo.path, '.git'), { recursive: true });
  writeFileSync(join(repo.path, 'marker'), '');
  await expect(fixture.apply()).rejects.toThrow('is not in a git repository');
});

test('of what git does not track here, only what may be a moved file is read', async () => {
  const { repo, copy, context } = fixture;
  copy.write('edited', lines([3, 'guest']));
  copy.write('data/taken/file', 'guest\n');
  copy.write('dir/new', 'guest\n');
  repo.write('data/large', Buffer.alloc(1024 * 1024));
  repo.write('data/taken', 'a file\n');
  repo.write('data/alike', lines([1, 'not moved']));
  renameSync(join(repo.path, 'edited'), join(repo.path, 'moved'));
  let read = '';
  const exec: Exec = (argv, options) => {
    if (argv.includes('update-index')) read += String(options?.input);
    return context.exec(argv, options);
  };
  const { files } = await fixture.apply({ context: { ...context, exec } });
  expect(files.map(({ outcome, path, movedTo }) => [outcome, path, movedTo])).toEqual([
    ['conflict', 'data/taken/file', undefined],
    ['applied', 'dir/new', undefined],
    ['merged', 'edited', 'moved'],
  ]);
  expect(read).toContain('moved\0');
  expect(read).not.toMatch(/data\/(?:large|taken)\0/);

  rmSync(join(copy.path, 'data'), { recursive: true });
  await fixture.apply();
  expect(here('moved')).toBe(lines([3, 'guest']));
});
