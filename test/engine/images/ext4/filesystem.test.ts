import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  contents,
  convert,
  debugfs,
  describeTree,
  expectClean,
  list,
  mounted,
  mountObstacle,
  tempDirectory,
} from '../layers/image-inspector.ts';
import { directory, file, symlink } from '../../../support/tar-builder.ts';

const obstacle = mountObstacle();

test('a directory with 100,000 entries has them all', async () => {
  using temp = tempDirectory();
  const names = Array.from({ length: 100_000 }, (_, index) => file(`d/entry-${index}`, ''));
  const { image, sizeBytes } = await convert(temp.path, [names]);
  expectClean(image);
  expect(list(image, 'd')).toHaveLength(100_000);
  // One inode per 16 KiB: the filesystem grew to have enough.
  expect(sizeBytes).toBeGreaterThan(100_000 * 16 * 1024);
});

test('a filesystem grows in steps of 256 MiB until the contents leave room', async () => {
  using temp = tempDirectory();
  const data = Buffer.alloc(30 * 1024 * 1024, 'x');
  const { sizeBytes, image } = await convert(temp.path, [[file('big', data)]], {
    sizeBytes: 64 * 1024 * 1024,
  });
  expect(sizeBytes).toBe(256 * 1024 * 1024);
  expectClean(image);
});

test.each([8 * 2 ** 30, 300 * 2 ** 20 + 12_345, 128 * 2 ** 20 + 4096, 3 * 2 ** 40])(
  'a filesystem of %d bytes is valid, sparse and no larger than asked',
  async (sizeBytes) => {
    using temp = tempDirectory();
    const { image, ...result } = await convert(temp.path, [[file('a')]], { sizeBytes });
    expect(result.sizeBytes).toBeLessThanOrEqual(sizeBytes);
    expect(result.sizeBytes).toBeGreaterThan(sizeBytes - 4 * 2 ** 20);
    expect(statSync(image).size).toBe(result.sizeBytes);
    expect(statSync(image).blocks * 512).toBeLessThan(32 * 2 ** 20);
    // A full check of terabytes takes minutes.
    if (sizeBytes < 2 ** 40) expectClean(image);
    else expect(list(image)).toEqual(['a']);
  },
);

test('the kernel is told that nothing is left to initialise', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [[file('a')]], { sizeBytes: 2 ** 30 });
  const groups =
    execFileSync('dumpe2fs', [image], { encoding: 'utf8', stdio: 'pipe' }).match(/^Group \d+:.*$/gm) ?? [];
  expect(groups).toHaveLength(8);
  for (const group of groups) expect(group).toContain('ITABLE_ZEROED');
  expect(groups[3]).toContain('INODE_UNINIT, BLOCK_UNINIT');
});

test('resize2fs grows and shrinks it', async () => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [[file('a', 'kept')]], { sizeBytes: 2 ** 30 });
  truncateSync(image, 20 * 2 ** 30);
  for (const size of ['20G', '512M']) {
    execFileSync('resize2fs', ['-f', image, size], { stdio: 'pipe' });
    expectClean(image);
  }
  expect(contents(image, 'a')).toBe('kept');
});

test('extended attributes are in the inode where they fit, else in a block', async () => {
  using temp = tempDirectory();
  const capability = '\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00';
  const large = 'v'.repeat(3000);
  const { image } = await convert(temp.path, [
    [
      file('ping', '', { pax: { 'SCHILY.xattr.security.capability': capability } }),
      file('large', '', { pax: { 'SCHILY.xattr.user.large': large, 'SCHILY.xattr.trusted.a': 'b\n=c' } }),
      symlink('long', 'x'.repeat(300)),
      directory('d', {
        pax: [['LIBARCHIVE.xattr.user.a%3Db', Buffer.from('\0\xff', 'latin1').toString('base64')]],
      }),
      file('mac', '', { pax: { 'SCHILY.xattr.com.apple.quarantine': 'x' } }),
    ],
  ]);
  expectClean(image);
  expect(debugfs(image, 'ea_get -x ping security.capability')).toContain('01 00 00 02 00 04');
  expect(debugfs(image, 'ea_get large user.large')).toContain(large);
  expect(debugfs(image, 'stat large')).not.toContain('File ACL: 0 ');
  expect(debugfs(image, 'ea_list d')).toContain('user.a=b (2)');
  expect(debugfs(image, 'ea_list mac')).not.toContain('apple');
});

test('the kernel reads a POSIX ACL as it was packed', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  using temp = tempDirectory();
  // Version 2: owner rwx, user 1000 r-x, group r-x, mask rwx, others nothing
  const acl =
    '02000000' +
    '01000700ffffffff' +
    '02000500e8030000' +
    '04000500ffffffff' +
    '10000700ffffffff' +
    '20000000ffffffff';
  const value = Buffer.from(acl, 'hex').toString('latin1');
  const { image } = await convert(temp.path, [
    [directory('d', { mode: 0o770, pax: { 'SCHILY.xattr.system.posix_acl_access': value } })],
  ]);
  expectClean(image);
  using mount = mounted(image);
  const read = execFileSync('getfattr', ['-n', 'system.posix_acl_access', '-e', 'hex', 'd'], {
    cwd: mount.path,
    encoding: 'utf8',
  });
  expect(read).toContain(`0x${acl}`);
});

test('what GNU tar packs in each of its formats comes out the same', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  using temp = tempDirectory();
  const source = path.join(temp.path, 'source');
  makeSourceTree(source);
  const expected = describeTree(source);
  const formats = [
    ['--format=gnu'],
    ['--format=gnu', '--sparse'],
    ['--format=posix'],
    ...['0.0', '0.1', '1.0'].map((version) => ['--format=posix', '--sparse', `--sparse-version=${version}`]),
  ];
  for (const format of formats) {
    using each = tempDirectory();
    const tar = execFileSync('tar', [...format, '-C', source, '-c', '.'], { maxBuffer: 2 ** 28 });
    const { image } = await convert(each.path, [tar]);
    expectClean(image);
    using mount = mounted(image);
    expect(withoutFractions(describeTree(mount.path), format)).toEqual(withoutFractions(expected, format));
  }
});

/** Only pax keeps fractions of a second. */
function withoutFractions(tree: Record<string, string>, format: readonly string[]): Record<string, string> {
  if (format.includes('--format=posix')) return tree;
  const second = 10n ** 9n;
  const whole = (time: bigint): bigint => time - (((time % second) + second) % second);
  return Object.fromEntries(
    Object.entries(tree).map(([name, text]) => [
      name,
      text.replace(/mtime (-?\d+)/, (_, digits: string) => `mtime ${whole(BigInt(digits))}`),
    ]),
  );
}

function makeSourceTree(source: string): void {
  mkdirSync(path.join(source, 'deep', 'l'.repeat(200), 'm'.repeat(200)), { recursive: true });
  writeFileSync(path.join(source, 'deep', 'l'.repeat(200), 'm'.repeat(200), 'file'), 'deep');
  const run = (program: string, ...args: string[]): void =>
    void execFileSync(program, args, { cwd: source, stdio: 'pipe' });
  for (const size of [0, 1, 4095, 4096, 4097, 1_000_000])
    writeFileSync(path.join(source, `size-${size}`), 'z'.repeat(size));
  run('ln', 'size-1', 'hard');
  run('ln', '-s', 'x'.repeat(59), 'short-link');
  run('ln', '-s', 'x'.repeat(60), 'long-link');
  run('mknod', 'null', 'c', '1', '3');
  run('mknod', 'large', 'b', '300', '70000');
  run('mkfifo', 'fifo');
  run('chmod', '4755', 'size-1');
  run('chown', '3000000:4000000', 'size-4096');
  run('touch', '-d', '1960-01-02 03:04:05.678', 'size-0');
  run('touch', '-d', '2200-01-02', 'size-4095');
  // 1500 islands that share no block: an extent tree of depth two
  const islands = Buffer.alloc(1500 * 8192);
  for (let index = 0; index < 1500; index++) islands.write(`island ${index}`, index * 8192 + (index % 4000));
  writeFileSync(path.join(source, 'sparse'), islands);
  run('fallocate', '--dig-holes', 'sparse');
}

test('a mounted image takes writes and is clean afterwards', async ({ skip }) => {
  if (obstacle !== undefined) skip(obstacle);
  using temp = tempDirectory();
  const many = Array.from({ length: 3000 }, (_, index) => file(`many/${index}`));
  const { image } = await convert(temp.path, [[file('a', 'old'), ...many]]);
  {
    using mount = mounted(image, 'rw');
    writeFileSync(path.join(mount.path, 'a'), 'new');
    for (let index = 0; index < 500; index++)
      writeFileSync(path.join(mount.path, 'many', `new-${index}`), 'x');
    execFileSync('sh', ['-c', 'rm many/1*; mkdir -p x/y; head -c 50000000 /dev/zero > x/y/z'], {
      cwd: mount.path,
    });
  }
  expectClean(image);
  using mount = mounted(image);
  expect(readFileSync(path.join(mount.path, 'a'), 'utf8')).toBe('new');
  expect(readdirSync(path.join(mount.path, 'many'))).toContain('new-499');
});

test('blocks of deleted files are used again or zeroed', async () => {
  using temp = tempDirectory();
  const secret = 'this was deleted ';
  const lower = Array.from({ length: 50 }, (_, index) => file(`f${index}`, secret.repeat(1000 + index * 50)));
  const upper = lower.map(({ path: name }) => file(`.wh.${name}`, ''));
  const { image } = await convert(temp.path, [lower, [...upper, file('new', 'n'.repeat(30_000))]]);
  expectClean(image);
  expect(readFileSync(image).includes(secret)).toBe(false);
});
