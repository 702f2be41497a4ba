import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCopyFixture, type CopyFixture } from './copy-fixture.ts';

let fixture: CopyFixture;
beforeEach(async () => {
  fixture = await openCopyFixture();
});
afterEach(() => fixture[Symbol.asyncDispose]());

/** Everything below a directory: `name/`, `name -> target`, or `name=content`. */
function listing(directory: string, below = ''): string[] {
  return readdirSync(join(directory, below))
    .sort()
    .flatMap((name) => {
      const path = join(below, name);
      const stats = lstatSync(join(directory, path));
      if (stats.isSymbolicLink()) return [`${path} -> ${readlinkSync(join(directory, path))}`];
      if (stats.isDirectory()) return [`${path}/`, ...listing(directory, path)];
      return [`${path}=${readFileSync(join(directory, path), 'utf8')}`];
    });
}

function tree(directory: string): void {
  mkdirSync(join(directory, 'src/sub'), { recursive: true });
  writeFileSync(join(directory, 'src/a'), 'A');
  writeFileSync(join(directory, 'src/sub/b'), 'B');
  symlinkSync('../a', join(directory, 'src/sub/link'));
}
const inSrc = ['a=A', 'sub/', 'sub/b=B', 'sub/link -> ../a'];
const under = (name: string) => [`${name}/`, ...inSrc.map((line) => `${name}/${line}`)];

// Docker's table, in both directions: the ends are set up, one copy is made, the destination's side is listed.
describe.each(['to the guest', 'from the guest'])("docker's rules, %s", (direction) => {
  const isTo = direction === 'to the guest';
  const from = () => (isTo ? fixture.here : fixture.there);
  const to = () => (isTo ? fixture.there : fixture.here);
  const cp = (source: string, destination: string, ...options: string[]) =>
    fixture.cp([...options, isTo ? source : `web:${source}`, isTo ? `web:${destination}` : destination]);

  test.each([
    ['a directory becomes one that is missing', 'src', 'new', ['old=O', ...under('new')].sort()],
    ['… also when that ends in a slash', 'src', 'new/', ['old=O', ...under('new')].sort()],
    ['a directory goes into one that is there', 'src', 'dir', ['dir/', ...under('dir/src'), 'old=O']],
    [
      'what is in it goes into one that is there',
      'src/.',
      'dir',
      ['dir/', ...inSrc.map((line) => `dir/${line}`), 'old=O'],
    ],
    ['a file becomes one that is missing', 'src/a', 'new', ['new=A', 'old=O']],
    ['a file replaces one', 'src/a', 'old', ['old=A']],
    ['a file goes into a directory', 'src/a', 'dir', ['dir/', 'dir/a=A', 'old=O']],
    ['a symlink stays one', 'src/sub/link', 'new', ['new -> ../a', 'old=O']],
  ])('%s', async (_, source, destination, expected) => {
    tree(from());
    writeFileSync(join(to(), 'old'), 'O');
    if (destination === 'dir') mkdirSync(join(to(), 'dir'));
    await cp(source, destination);
    expect(listing(to())).toEqual(expected);
  });

  test('-L, and a slash at its end, follow a symlink that is the source', async () => {
    tree(from());
    symlinkSync('src', join(from(), 'way'));
    await cp('src/sub/link', 'file', '-L');
    await cp('way', 'link');
    await cp('way/', 'one');
    await cp('way', 'two', '-L');
    expect(listing(to())).toEqual(['file=A', 'link -> src', ...under('one'), ...under('two')]);
  });

  test('a destination that is a symlink is followed, also to nothing', async () => {
    tree(from());
    mkdirSync(join(to(), 'dir'));
    symlinkSync('dir', join(to(), 'in'));
    symlinkSync('dir/later', join(to(), 'dangling'));
    await cp('src/a', 'in');
    await cp('src/sub/b', 'dangling');
    expect(listing(to())).toEqual(['dangling -> dir/later', 'dir/', 'dir/a=A', 'dir/later=B', 'in -> dir']);
  });

  test.each([
    ['a source that is missing', 'nothing', 'new', '"web:', 'does not exist'],
    ['a directory over a file', 'src', 'old', 'old"', 'is a directory and cannot replace the file'],
    ['a file into a directory that is missing', 'src/a', 'new/', 'new/"', 'is not a directory that exists'],
    ['a parent that is missing', 'src/a', 'no/such/new', 'no/such/new"', 'There is no directory to make'],
    ['a file that ends as a directory', 'src/a/', 'new', 'src/a/"', 'ends as a directory does'],
  ])('%s is refused, and nothing is touched', async (_, source, destination, _name, words) => {
    tree(from());
    writeFileSync(join(to(), 'old'), 'O');
    await expect(cp(source, destination)).rejects.toThrow(words);
    expect(listing(to())).toEqual(['old=O']);
  });

  test('modes, times, hard links, odd names and empty files arrive', async () => {
    const src = join(from(), 'src');
    mkdirSync(join(src, 'd'), { recursive: true });
    const odd = ['-x', 'new\nline', 'sp ace', 'ä→', `${'long'.repeat(60)}`, '$(id)', "it's", '*'];
    for (const name of odd) writeFileSync(join(src, 'd', name), name);
    writeFileSync(Buffer.from(`${src}/\xff`, 'latin1'), '');
    mkdirSync(join(src, 'e'));
    linkSync(join(src, 'd/-x'), join(src, 'e/same'));
    chmodSync(join(src, 'd/ä→'), 0o751);
    chmodSync(join(src, 'd'), 0o2750);
    for (const path of ['d/ä→', 'd', '.']) utimesSync(join(src, path), 1_000_000_000, 1_000_000_000);
    await cp('src', 'out');
    const out = join(to(), 'out');
    expect(readdirSync(join(out, 'd')).sort()).toEqual(odd.sort());
    expect(readdirSync(out, { encoding: 'latin1' }).sort()).toEqual(['d', 'e', '\xff']);
    expect(statSync(join(out, 'e/same')).ino).toBe(statSync(join(out, 'd/-x')).ino);
    expect(statSync(join(out, 'd/ä→'))).toMatchObject({ mode: 0o100751, mtimeMs: 1e12 });
    // The bit that passes a group on is not kept unless owners are.
    expect(statSync(join(out, 'd'))).toMatchObject({ mode: 0o40750, mtimeMs: 1e12 });
    expect(statSync(out).mtimeMs).toBe(1e12);
  });

  test('a name of more than one colon, and one that begins with a hyphen, go by ./ and --', async () => {
    writeFileSync(join(from(), 'a:b'), 'colon');
    writeFileSync(join(from(), '-L'), 'hyphen');
    await cp(isTo ? './a:b' : 'a:b', 'one');
    await cp(isTo ? './-L' : '-L', 'two');
    expect(listing(to())).toEqual(['one=colon', 'two=hyphen']);
  });

  test('a file of many pieces arrives unchanged, and what was copied is said', async () => {
    const content = Buffer.alloc(5_000_003, 'Grüße\n');
    writeFileSync(join(from(), 'big'), content);
    const { talk } = await cp('big', 'copy');
    expect(readFileSync(join(to(), 'copy')).equals(content)).toBe(true);
    expect(talk).toContain('Copied 1 file, 4.8 MiB, to ');
  });
});

test('what goes through - is a tar that tar reads, and one that tar wrote', async () => {
  tree(fixture.there);
  const { stdout } = await fixture.cp(['web:src', '-']);
  expect(execFileSync('tar', ['-t'], { input: stdout }).toString().split('\n').sort()).toEqual(
    ['', 'src/', 'src/a', 'src/sub/', 'src/sub/b', 'src/sub/link'].sort(),
  );
  mkdirSync(join(fixture.there, 'again'));
  await fixture.cp(['-', 'web:again'], gzipSync(stdout));
  expect(listing(join(fixture.there, 'again'))).toEqual(under('src'));
  const content = (await fixture.cp(['web:src/.', '-'])).stdout;
  expect(execFileSync('tar', ['-t'], { input: content }).toString().split('\n')).toContain('./');
});

test('a PAX tar with a path that busybox could not read arrives under its own name', async () => {
  const deep = join('d'.repeat(90), 'e'.repeat(90), 'f'.repeat(90));
  mkdirSync(join(fixture.here, deep, '..'), { recursive: true });
  writeFileSync(join(fixture.here, deep), 'deep');
  const input = spawnSync('tar', ['-c', '--format=pax', '-C', fixture.here, '.']).stdout;
  const before = statSync(fixture.there).mode;
  chmodSync(fixture.here, 0o700);
  await fixture.cp(['-', 'web:.'], input);
  expect(readFileSync(join(fixture.there, deep), 'utf8')).toBe('deep');
  expect(statSync(fixture.there).mode).toBe(before);
});

test('a tar goes only into a directory that is there', async () => {
  await expect(fixture.cp(['-', 'web:new'], Buffer.alloc(1024))).rejects.toThrow('is not a directory');
  await expect(fixture.cp(['-', 'web:.'], Buffer.from('no tar'))).rejects.toThrow('standard input');
  expect(readdirSync(fixture.there)).toEqual([]);
});

test('an input that breaks off leaves no file in the guest', async () => {
  writeFileSync(join(fixture.here, 'a'), 'x'.repeat(100_000));
  const whole = spawnSync('tar', ['-c', '-C', fixture.here, 'a']).stdout;
  await expect(fixture.cp(['-', 'web:.'], whole.subarray(0, 50_000))).rejects.toThrow('truncated');
});

test('devices, pipes and sockets: nothing is written to them, and none is made here', async () => {
  spawnSync('mkfifo', [join(fixture.there, 'pipe')]);
  writeFileSync(join(fixture.there, 'file'), 'F');
  await expect(fixture.cp(['web:pipe', 'here'])).rejects.toThrow('is a device, a pipe or a socket');
  await expect(fixture.cp(['web:file', '/dev/null'])).rejects.toThrow('nothing is copied to devices');
  const { talk } = await fixture.cp(['web:.', 'all']);
  expect(listing(join(fixture.here, 'all'))).toEqual(['file=F']);
  expect(talk).toContain('Devices and pipes were left out');
});

test('a sparse file stays sparse here', async () => {
  execFileSync('truncate', ['-s', '64M', join(fixture.there, 'sparse')]);
  await fixture.cp(['web:sparse', '.']);
  const { size, blocks } = statSync(join(fixture.here, 'sparse'));
  expect(size).toBe(64 * 1024 ** 2);
  expect(blocks * 512).toBeLessThan(1024 ** 2);
});

test('a file that is replaced keeps its content until the new one is complete', async () => {
  writeFileSync(join(fixture.here, 'file'), 'old');
  linkSync(join(fixture.here, 'file'), join(fixture.here, 'other'));
  writeFileSync(join(fixture.there, 'file'), 'new');
  await fixture.cp(['web:file', '.']);
  expect(listing(fixture.here)).toEqual(['file=new', 'other=old']);
});

test.each([
  [['here', 'there'], 'Neither of the two is in a VM'],
  [['web:a', 'db:b'], 'One of the two must be on this host'],
  [['-', 'here'], 'Neither of the two is in a VM'],
  [['here', 'db:'], '"db:" has no path'],
])('%s is a usage error', async (words, message) => {
  await expect(fixture.cp(words)).rejects.toThrow(message);
  expect(existsSync(join(fixture.here, 'here'))).toBe(false);
});
