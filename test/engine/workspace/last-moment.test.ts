import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { guestPrograms } from '../../support/guest-programs.ts';
import { makeTempDirectory, viewOf } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

let fixture: Fixture;
let own: ReturnType<typeof makeTempDirectory>;
/** Runs in the guest's workspace between the last look at it and the first file that is replaced */
let lastMoment: string;
beforeEach(async () => {
  own = makeTempDirectory();
  lastMoment = join(own.path, 'act');
  const place = `#!/bin/sh\n[ "$1" = lock ] || [ ! -e ${lastMoment} ] || . ${lastMoment}\nexec ${guestPrograms()}/place "$@"\n`;
  writeFileSync(join(own.path, 'place'), place, { mode: 0o755 });
  for (const name of ['look', 'lib']) symlinkSync(join(guestPrograms(), name), join(own.path, name));
  fixture = createFixture({ programs: own.path });
  const { repo } = fixture;
  for (const name of ['a', 'edited', 'gone', 'dir/in', 'last']) repo.write(name, `${name}\n`);
  repo.commit('first');
  await fixture.prepare();
  for (const name of ['a', 'edited', 'dir/in', 'last']) repo.write(name, `${name} again\n`);
  repo.git('rm', '-q', 'gone');
  repo.write('new', 'new\n');
  repo.git('add', '-A');
});
afterEach(() => {
  fixture.remove();
  own.remove();
});

/** Once, or each time. */
const act = (script: string, { once = true } = {}): void =>
  writeFileSync(lastMoment, once ? `rm ${lastMoment}\n${script}\n` : `${script}\n`);
const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');
const ofBanger = (): string[] =>
  readdirSync(join(fixture.copy.path, '.git')).filter((name) =>
    /^banger-(?:next|coming|going|list)/.test(name),
  );

test.each([
  ['is written', 'edited', 'echo guest >>edited', 'edited\nguest\n'],
  [
    'is written, and given its old time',
    'edited',
    'touch -r edited t; echo guest >edited; touch -r t edited; rm t',
    'guest\n',
  ],
  ['takes the place of another', 'dir/in', 'echo guest >t; touch -d 2001-01-01 t; mv t dir/in', 'guest\n'],
  ['was to go', 'gone', 'echo guest >gone', 'guest\n'],
  ['comes where one is to come', 'new', 'echo guest >new', 'guest\n'],
])(
  'a file that %s at the last moment is looked at again, and nothing of the tree is another',
  async (...row) => {
    const [, path, script, content] = row;
    const { repo, copy } = fixture;
    act(script);
    await expect(fixture.prepare()).rejects.toThrow(`that would be lost: "${path}"`);
    expect(read(path)).toBe(content);
    const others = ['a', 'edited', 'dir/in', 'last', 'gone'].filter((each) => each !== path);
    expect(others.map(read)).toEqual(others.map((each) => `${each}\n`));
    expect(copy.git('diff', '--cached')).toBe('');
    expect(ofBanger()).toEqual([]);
    await fixture.prepare({ overwrite: true });
    expect(viewOf(copy)).toEqual(viewOf(repo));
    expect(ofBanger()).toEqual([]);
  },
);

test.each([
  ['where a new file is to come', 'mkdir fresh; echo guest >fresh/work', 'fresh/work'],
  ['where a new directory is to come', 'echo guest >made', 'made'],
  ['in a directory that becomes a file', 'echo guest >conv/work', 'conv/work'],
  ['in a directory of one that becomes a file', 'echo guest >conv/deep/work', 'conv/deep/work'],
  ['in place of a file that is changed', 'rm a; mkdir a; echo guest >a/work', 'a/work'],
])('what the guest makes at the last moment %s is looked at, and not lost', async (...row) => {
  const [, script, path] = row;
  const { repo, copy } = fixture;
  repo.write('conv/deep/in', 'in\n');
  repo.git('add', '-A');
  await fixture.prepare();
  for (const name of ['a', 'last']) repo.write(name, `${name} a third time\n`);
  rmSync(join(repo.path, 'conv'), { recursive: true });
  repo.write('conv', 'a file now\n');
  repo.write('fresh', 'fresh\n');
  repo.write('made/deep/file', 'made\n');
  repo.git('add', '-A');
  act(script);
  await expect(fixture.prepare()).rejects.toThrow(path);
  expect(read(path)).toBe('guest\n');
  expect(read('last')).toBe('last again\n');
  expect(ofBanger()).toEqual([]);
  await fixture.prepare({ overwrite: true });
  expect(viewOf(copy)).toEqual(viewOf(repo));
});

test('where nobody knows any more what was changed at the last moment, all is looked at again', async () => {
  act('rm -f .git/banger-looked .git/banger-quiet; echo guest >edited');
  await expect(fixture.prepare()).rejects.toThrow('that would be lost: "edited"');
  expect([read('edited'), read('a')]).toEqual(['guest\n', 'a\n']);
});

test('what is built of the old files while the new ones wait is older than those', async () => {
  const { copy } = fixture;
  act('cp a built');
  await fixture.prepare();
  expect(read('built')).toBe('a\n');
  const timeOf = (name: string): number => statSync(join(copy.path, name)).mtimeMs;
  expect(timeOf('a')).toBeGreaterThan(timeOf('built'));
});

test('a file that is written at every last moment keeps the tree as it is, and is named', async () => {
  act('echo guest >>.git/../edited; touch -d 2001-01-01 edited', { once: false });
  await expect(fixture.prepare({ overwrite: true })).rejects.toThrow('keeps changing: "edited"');
  expect(read('a')).toBe('a\n');
});

test('files come to where directories were, and the other way round; none goes through a symlink', async () => {
  const { repo, copy, directory } = fixture;
  await fixture.prepare();
  rmSync(join(repo.path, 'dir'), { recursive: true });
  repo.write('dir', 'a file now\n');
  rmSync(join(repo.path, 'a'));
  repo.write('a/deep/file', 'in a directory now\n');
  repo.git('add', '-A');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect([read('dir'), read('a/deep/file')]).toEqual(['a file now\n', 'in a directory now\n']);
  const outside = join(directory, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'file'), 'outside\n');
  rmSync(join(copy.path, 'a/deep'), { recursive: true });
  symlinkSync(outside, join(copy.path, 'a/deep'));
  repo.write('a/deep/file', 'of the host\n');
  await fixture.prepare({ overwrite: true });
  expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('outside\n');
  expect(read('a/deep/file')).toBe('of the host\n');
  expect(ofBanger()).toEqual([]);
});

test('a guest of an older build, whose program knows of no locks, is updated without it', async () => {
  const { repo, copy } = fixture;
  writeFileSync(join(own.path, 'place'), '#!/bin/sh\nexit 2\n', { mode: 0o755 });
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(ofBanger()).toEqual([]);
});
