import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { guestPrograms } from '../../support/guest-programs.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';
import { withSmallDisk } from '../../support/small-disk.ts';

/** As `place`, on a filesystem that knows no other renaming than the oldest. */
let withoutFlags: string;
let variant: string;
beforeAll(() => {
  variant = mkdtempSync('/tmp/banger-place-');
  cpSync('guest', variant, { recursive: true });
  const names = join(variant, 'names.h');
  const text = readFileSync(names, 'utf8');
  writeFileSync(names, text.replace('no_replace = 1, exchange = 2', 'no_replace = 64, exchange = 64'));
  withoutFlags = join(variant, 'without-flags');
  const options = ['-Wall', '-Werror', '-nostdlib', '-static', '-o', withoutFlags];
  execFileSync('tcc', [...options, join(variant, 'place.c')]);
});
afterAll(() => rmSync(variant, { recursive: true }));

let tree: ReturnType<typeof makeTempDirectory>;
beforeEach(() => {
  tree = makeTempDirectory();
  mkdirSync(join(tree.path, '.git/banger-coming'), { recursive: true });
});
afterEach(() => tree.remove());

const write = (path: string, content: string): void => {
  mkdirSync(dirname(join(tree.path, path)), { recursive: true });
  writeFileSync(join(tree.path, path), content);
};
const comes = (path: string, content: string): void => write(`.git/banger-coming/${path}`, content);
const read = (path: string): string => readFileSync(join(tree.path, path), 'utf8');
/** All that is there by now was looked at. */
const mark = (): void =>
  void execFileSync('sh', ['-c', 'sleep 0.02; : >.git/banger-looked'], { cwd: tree.path });
const isThere = (path: string): boolean => existsSync(join(tree.path, path));

interface Placed {
  readonly code: number | null;
  readonly told: readonly string[];
}
const place = (
  records: readonly string[],
  { again = false, program = join(guestPrograms(), 'place') } = {},
): Placed => {
  writeFileSync(join(tree.path, 'list'), records.map((each) => `${each}\0`).join(''));
  const words = ['.', 'list', '.git/banger-coming', '.git/banger-going', ...(again ? ['again'] : [])];
  const { status, stdout } = spawnSync(program, words, { cwd: tree.path });
  rmSync(join(tree.path, 'list'));
  return { code: status, told: stdout.toString().split('\0').filter(Boolean) };
};
/** What the tree has, but for the repository. */
const names = (): string[] =>
  readdirSync(tree.path, { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.startsWith('.git'))
    .sort();

test('more paths than anybody has, and more than 32 MiB of them, are put in place, and finished when ended', () => {
  const wide = 'directory'.repeat(14);
  const others = Array.from({ length: 262_145 }, (_, at) => `e${wide}/${at}`);
  write('changed', 'old\n');
  mark();
  for (const path of ['changed', 'new']) comes(path, 'host\n');
  const records = ['wchanged', ...others, 'wnew'];
  expect(place(records)).toEqual({ code: 0, told: [] });
  expect(place(records, { again: true })).toEqual({ code: 0, told: [] });
  expect([read('changed'), read('new')]).toEqual(['host\n', 'host\n']);
});

test('where files cannot change places, what was changed meanwhile is seen all the same, and stays later', () => {
  const program = withoutFlags;
  for (const name of ['a', 'b', 'gone', 'way']) write(name, `${name}\n`);
  mkdirSync(join(tree.path, 'full'));
  write('full/ignored', 'old\n');
  mark();
  const records = ['rgone', 'dway', 'wa', 'wb', 'wfull', 'wway/new'];
  const arrive = (): void => {
    for (const path of ['a', 'b', 'full', 'way/new']) comes(path, 'host\n');
  };
  arrive();
  write('b', 'guest\n');
  expect(place(records, { program })).toEqual({ code: 76, told: ['b'] });
  expect([read('a'), read('b'), read('gone'), read('way')]).toEqual(['a\n', 'guest\n', 'gone\n', 'way\n']);
  expect(place(records, { program, again: true })).toEqual({ code: 0, told: ['b'] });
  expect(names()).toEqual(['a', 'b', 'full', 'way', 'way/new']);
  expect([read('a'), read('b'), read('full'), read('way/new')]).toEqual([
    'host\n',
    'guest\n',
    'host\n',
    'host\n',
  ]);
  expect(place(records, { program, again: true })).toEqual({ code: 0, told: ['b'] });
});

test('what something is mounted on stays, and files on another filesystem are replaced there', async (context) => {
  await withSmallDisk(context, '1m', (disk) => {
    mkdirSync(join(tree.path, 'volume'));
    execFileSync('mount', ['--bind', disk.path, join(tree.path, 'volume')]);
    try {
      for (const name of ['a', 'gone', 'edited']) write(`volume/${name}`, `${name}\n`);
      mark();
      const records = [
        'rvolume/gone',
        'dvolume',
        'wvolume/a',
        'wvolume/edited',
        'wvolume/link',
        'wvolume/new',
      ];
      for (const path of ['a', 'edited', 'new']) comes(`volume/${path}`, 'host\n');
      execFileSync('chmod', ['755', join(tree.path, '.git/banger-coming/volume/a')]);
      symlinkSync('a', join(tree.path, '.git/banger-coming/volume/link'));
      write('volume/edited', 'guest\n');
      expect(place(records)).toEqual({ code: 76, told: ['volume/edited'] });
      expect([read('volume/a'), read('volume/gone')]).toEqual(['a\n', 'gone\n']);
      expect(place(records, { again: true })).toEqual({ code: 0, told: ['volume/edited'] });
      expect(names()).toEqual(['volume', ...['a', 'edited', 'link', 'new'].map((name) => `volume/${name}`)]);
      expect([read('volume/a'), read('volume/edited'), read('volume/new')]).toEqual([
        'host\n',
        'guest\n',
        'host\n',
      ]);
      expect(statSync(join(tree.path, 'volume/a')).mode & 0o777).toBe(0o755);
      expect(readlinkSync(join(tree.path, 'volume/link'))).toBe('a');
      rmSync(join(tree.path, 'volume/edited'));

      // A file that is to come where the volume is.
      mark();
      rmSync(join(tree.path, '.git/banger-going'), { recursive: true });
      rmSync(join(tree.path, '.git/banger-coming/volume'), { recursive: true });
      comes('volume', 'host\n');
      expect(place(['rvolume/a', 'wvolume'])).toEqual({ code: 4, told: ['volume'] });
      expect(names()).toEqual(['volume', 'volume/link', 'volume/new']);
    } finally {
      execFileSync('umount', [join(tree.path, 'volume')]);
    }
  });
});

test('without a mark nothing is done at first, and later nothing that is there is replaced', () => {
  write('a', 'a\n');
  comes('a', 'host\n');
  comes('new', 'host\n');
  expect(place(['wa', 'wnew'])).toEqual({ code: 3, told: [] });
  expect(names()).toEqual(['a']);
  expect(place(['wa', 'wnew'], { again: true })).toEqual({ code: 0, told: ['a'] });
  expect([read('a'), read('new')]).toEqual(['a\n', 'host\n']);
});

test('directories go back as they were, and those that are left empty go at the end', () => {
  write('conv/old', 'old\n');
  write('empty/er/old', 'old\n');
  write('last', 'last\n');
  mark();
  const records = [
    'rconv/old',
    'rempty/er/old',
    'ddeep',
    'ddeep/er',
    'wconv',
    'wdeep/er/new',
    'wlast',
    'eempty/er',
    'eempty',
  ];
  const arrive = (): void => {
    for (const path of ['conv', 'deep/er/new', 'last']) comes(path, 'host\n');
  };
  arrive();
  // Seen only when all else is done.
  write('last', 'guest\n');
  expect(place(records)).toEqual({ code: 76, told: ['last'] });
  expect(names()).toEqual(['conv', 'conv/old', 'empty', 'empty/er', 'empty/er/old', 'last']);
  mark();
  rmSync(join(tree.path, '.git/banger-going'), { recursive: true });
  arrive();
  expect(place(records)).toEqual({ code: 0, told: [] });
  expect(names()).toEqual(['conv', 'deep', 'deep/er', 'deep/er/new', 'last']);
  expect(isThere('.git/banger-coming/conv/old')).toBe(false);
});

test('a file bears the time of when it is put in place, or one that was asked for', () => {
  for (const name of ['a', 'b']) comes(name, 'host\n');
  mark();
  write('built', 'of what was there before\n');
  expect(place(['wa', 't1000000000/b'])).toEqual({ code: 0, told: [] });
  const timeOf = (name: string): number => statSync(join(tree.path, name)).mtimeMs;
  expect(timeOf('a')).toBeGreaterThan(timeOf('built'));
  expect(timeOf('b')).toBe(1_000_000_000_000);
});

test('what was written just before it was replaced by a run that was ended comes back', () => {
  for (const name of ['a', 'both', 'gone']) write(name, `${name}\n`);
  write('conv/old', 'old\n');
  mark();
  const records = ['rgone', 'wa', 'wboth', 'wconv', 'wlast'];
  for (const path of ['a', 'both', 'conv', 'last']) comes(path, 'host\n');
  expect(place(records)).toEqual({ code: 0, told: [] });
  // Whoever had them open when they were replaced; nobody has looked at them again.
  for (const path of ['coming/a', 'coming/both', 'coming/conv/old', 'going/0'])
    write(`.git/banger-${path}`, 'guest\n');
  write('both', 'later\n');
  expect(place(records, { again: true })).toEqual({ code: 0, told: ['gone', 'a', 'conv'] });
  expect(names()).toEqual(['a', 'both', 'conv', 'conv/old', 'gone', 'last']);
  expect([read('a'), read('both'), read('conv/old'), read('gone')]).toEqual([
    'guest\n',
    'later\n',
    'guest\n',
    'guest\n',
  ]);
  expect(place(records, { again: true })).toEqual({ code: 0, told: ['gone', 'a', 'conv'] });
});
