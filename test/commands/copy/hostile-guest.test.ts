import {
  mkdirSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { directory, file, hardlink, symlink, tarOf, type EntrySpec } from '../../support/tar-builder.ts';
import { openCopyFixture, type CopyFixture } from './copy-fixture.ts';

let fixture: CopyFixture;
let outside: string;
beforeEach(async () => {
  fixture = await openCopyFixture();
  outside = join(fixture.here, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'mine'), 'mine');
  mkdirSync(join(fixture.there, 'dir'));
  writeFileSync(join(fixture.there, 'file'), 'F');
});
afterEach(() => fixture[Symbol.asyncDispose]());

const root = directory('./');
const untouched = (): void => {
  expect(readdirSync(outside)).toEqual(['mine']);
  expect(readFileSync(join(outside, 'mine'), 'utf8')).toBe('mine');
  expect(readdirSync(fixture.here).filter((name) => !['outside', 'out'].includes(name))).toEqual([]);
};

test.each<[string, EntrySpec[], string]>([
  ['A1: a path upwards', [root, file('../outside/mine')], 'has ".." in its path'],
  ['A1: a path upwards in the middle', [root, file('a/../../outside/mine')], 'has ".." in its path'],
  ['A1: an absolute path', [root, file('/etc/banger-was-here')], 'has an absolute path'],
  ['A1: a zero byte', [root, file('x', 'x', { pax: { path: 'a\0b' } })], 'has a zero byte in its path'],
  ['A1: a path longer than Linux opens', [root, file('x/'.repeat(3000))], 'more than 4096 bytes'],
  [
    'A1: very many directories',
    [root, ...Array.from({ length: 300 }, (_, depth) => directory('d/'.repeat(depth + 1)))],
    'is deeper than 256',
  ],
  ['A3: a file through a symlink', [root, symlink('way', '../outside'), file('way/mine')], 'in the way'],
  [
    'A3: a directory through a symlink',
    [root, symlink('way', '../outside'), directory('way/new')],
    'in the way',
  ],
  [
    'A3: a directory in place of a symlink',
    [root, symlink('way', '../outside'), directory('way')],
    'in the way',
  ],
  [
    'A3: a symlink through a symlink',
    [root, symlink('way', '../outside'), symlink('way/new', 'x')],
    'in the way',
  ],
  [
    'A3: through an absolute symlink',
    [root, symlink('way', '/tmp'), file('way/banger-was-here')],
    'in the way',
  ],
  ['A4: a hard link upwards', [root, hardlink('h', '../outside/mine')], 'has ".." in its path'],
  ['A4: a hard link to an absolute path', [root, hardlink('h', '/etc/passwd')], 'has an absolute path'],
  [
    'A4: a hard link through a symlink',
    [root, symlink('way', '../outside'), hardlink('h', 'way/mine')],
    'in the way',
  ],
  [
    'A4: a hard link to a symlink',
    [root, symlink('way', '../outside/mine'), hardlink('h', 'way')],
    'was not copied',
  ],
  ['A4: a hard link to a later entry', [root, hardlink('h', 'later'), file('later')], 'ENOENT'],
  ['A4: a hard link to itself', [root, hardlink('h', 'h')], 'ENOENT'],
  ['A2: one name twice', [root, file('a', 'first'), file('a', 'second')], 'comes twice'],
  ['a directory twice', [root, directory('a'), directory('a')], 'comes twice'],
  ['a file in place of a directory', [root, directory('a'), file('a')], 'a directory is in the way'],
  ['a file where a directory was asked for', [file('dir')], 'was asked for a directory and sent a file'],
  ['nothing', [], 'was asked for a directory and sent nothing'],
])('%s is refused, and nothing outside is touched', async (_, entries, words) => {
  fixture.answer(tarOf(entries));
  await expect(fixture.cp(['web:dir', 'out'])).rejects.toThrow(words);
  untouched();
  expect(existsSync('/etc/banger-was-here')).toBe(false);
  expect(existsSync('/tmp/banger-was-here')).toBe(false);
});

test.each<[string, EntrySpec[], string]>([
  ['a directory', [root, file('mine')], 'was asked for a file and sent a directory'],
  ['a symlink', [symlink('file', 'outside/mine')], 'was asked for a file and sent a symlink'],
  ['a hard link', [hardlink('file', 'outside/mine')], 'was asked for a file and sent a hardlink'],
  ['a file elsewhere', [file('outside/mine')], 'was asked for a file and sent a file "outside/mine"'],
  ['more than that', [file('file'), file('second')], 'sent "second" as well'],
])('for a file, %s is refused', async (_, entries, words) => {
  fixture.answer(tarOf(entries));
  await expect(fixture.cp(['web:file', 'out'])).rejects.toThrow(words);
  untouched();
});

test('a symlink of the user inside the destination is not followed', async () => {
  mkdirSync(join(fixture.here, 'out'));
  symlinkSync('../outside', join(fixture.here, 'out/sub'));
  fixture.answer(tarOf([root, directory('sub'), file('sub/mine', 'evil')]));
  await expect(fixture.cp(['web:dir/.', 'out'])).rejects.toThrow('in the way');
  untouched();
  // A file takes the place of a link, and leaves alone what that leads to.
  symlinkSync('../outside/mine', join(fixture.here, 'out/file'));
  fixture.answer(tarOf([root, file('file', 'new')]));
  await fixture.cp(['web:dir/.', 'out']);
  expect(readFileSync(join(fixture.here, 'out/file'), 'utf8')).toBe('new');
  untouched();
});

test('a hard link does not give away a file that was there before', async () => {
  mkdirSync(join(fixture.here, 'out'));
  writeFileSync(join(fixture.here, 'out/private'), 'private');
  fixture.answer(tarOf([root, hardlink('public', 'private')]));
  await expect(fixture.cp(['web:dir/.', 'out'])).rejects.toThrow('was not copied');
  expect(statSync(join(fixture.here, 'out/private')).nlink).toBe(1);
});

test('setuid and setgid go, devices are not made, and directories that were there keep their mode', async () => {
  mkdirSync(join(fixture.here, 'out/kept'), { recursive: true, mode: 0o700 });
  fixture.answer(
    tarOf([
      directory('./', { mode: 0o777 }),
      directory('kept', { mode: 0o777 }),
      directory('new', { mode: 0o7777 }),
      file('new/suid', 'x', { mode: 0o6755 }),
      { path: 'null', type: '3', major: 1, minor: 3 },
      { path: 'disk', type: '4', major: 8, minor: 0 },
      { path: 'pipe', type: '6' },
    ]),
  );
  const { talk } = await fixture.cp(['web:dir/.', 'out', '-a']);
  const modeOf = (name: string): number => lstatSync(join(fixture.here, 'out', name)).mode & 0o7777;
  expect(modeOf('new/suid')).toBe(0o755);
  expect(modeOf('new')).toBe(0o1777);
  expect(modeOf('kept')).toBe(0o700);
  expect(readdirSync(join(fixture.here, 'out')).sort()).toEqual(['kept', 'new']);
  expect(talk).toContain('lost the bits');
  expect(talk).toContain('Devices and pipes were left out');
});

test('names that are not for terminals arrive as they are, and are shown harmlessly', async () => {
  const name = 'a\u001b]0;title\u0007\u202e';
  const raw = Buffer.from(name).toString('latin1');
  fixture.answer(tarOf([root, file(raw), file(raw)]));
  const failure = await fixture.cp(['web:dir', 'out']).catch((error: Error) => error.message);
  expect(readdirSync(join(fixture.here, 'out'))).toEqual([name]);
  expect(failure).toContain('comes twice');
  // eslint-disable-next-line no-control-regex -- control characters are what must not be there
  expect(failure).not.toMatch(/[\u0000-\u001f\u202e]/);
});

test('what breaks off leaves the file that was there, and no other', async () => {
  mkdirSync(join(fixture.here, 'out'));
  writeFileSync(join(fixture.here, 'out/file'), 'before');
  const whole = tarOf([file('file', 'x'.repeat(100_000))]);
  fixture.answer(whole.subarray(0, 50_000));
  await expect(fixture.cp(['web:file', 'out'])).rejects.toThrow(
    'What VM "web" sent cannot be used: "file" is truncated',
  );
  expect(readdirSync(join(fixture.here, 'out'))).toEqual(['file']);
  expect(readFileSync(join(fixture.here, 'out/file'), 'utf8')).toBe('before');
});

test('a stream without an end is given up behind the end of its tar', async () => {
  const endless = Readable.from(
    (function* () {
      yield tarOf([file('file', 'x')]);
      for (;;) yield Buffer.alloc(65_536, 'noise');
    })(),
  );
  fixture.answer(endless);
  await expect(fixture.cp(['web:file', 'out'])).rejects.toThrow('goes on after its end');
  expect(endless.readableEnded).toBe(false);
});

test('the same holds for a tar on standard output', async () => {
  fixture.answer(tarOf([root, file('../../evil')]));
  await expect(fixture.cp(['web:dir', '-'])).rejects.toThrow('has ".." in its path');
  fixture.answer(Buffer.from('not a tar at all'.repeat(100)));
  await expect(fixture.cp(['web:dir', '-'])).rejects.toThrow('cannot be used');
});
