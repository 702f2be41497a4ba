import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setInterval } from 'node:timers';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { layerTar } from '../../../../src/engine/images/export/layer-tar.ts';
import { DamagedFilesystem } from '../../../../src/engine/images/ext4-reader/damage.ts';
import { convert, describeTree, mounted, mountObstacle, tempDirectory } from '../layers/image-inspector.ts';

async function tarOf(image: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of layerTar(image)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A tree with everything that a directory of the host can hold without root. */
function populate(root: string): void {
  mkdirSync(join(root, 'etc/deep/er'), { recursive: true });
  writeFileSync(join(root, 'etc/hostname'), 'host\n', { mode: 0o640 });
  writeFileSync(join(root, 'empty'), '');
  writeFileSync(join(root, 'large'), Buffer.alloc(3_000_001, 'abc'));
  writeFileSync(join(root, 'sparse'), 'start');
  truncateSync(join(root, 'sparse'), 9_000_000);
  writeFileSync(join(root, `n${'a'.repeat(200)}`), 'long name');
  execFileSync('ln', [join(root, 'large'), join(root, 'etc/deep/also-large')]);
  execFileSync('ln', ['-s', '../x', join(root, 'fast')]);
  execFileSync('ln', ['-s', `/${'t'.repeat(180)}`, join(root, 'slow')]);
  execFileSync('mkfifo', [join(root, 'etc/fifo')]);
  mkdirSync(join(root, 'many'));
  for (let index = 0; index < 3000; index++) writeFileSync(join(root, `many/file-${index}`), String(index));
  execFileSync('touch', ['-d', '1960-01-02T03:04:05.678901234Z', join(root, 'empty')]);
}

/** Names, types, owners, modes, sizes, times and contents of a tar, as GNU tar sees them. */
function describeTar(tar: Buffer, directory: string): Record<string, string> {
  mkdirSync(directory);
  execFileSync('tar', ['-x', '-p', '--numeric-owner', '--xattrs', '--xattrs-include=*', '-C', directory], {
    input: tar,
  });
  return describeTree(directory);
}

const kinds: readonly (readonly [string, readonly string[]])[] = [
  ['ext4 as mke2fs makes it', ['-t', 'ext4']],
  ['ext4 with small blocks', ['-t', 'ext4', '-b', '1024']],
  ['ext4 without extents', ['-t', 'ext4', '-O', '^extents,^64bit']],
  ['ext4 with data in inodes', ['-t', 'ext4', '-O', 'inline_data', '-I', '512']],
  ['ext4 with meta block groups', ['-t', 'ext4', '-O', 'meta_bg,^resize_inode']],
  ['ext2', ['-t', 'ext2']],
];

test.skipIf(process.getuid?.() !== 0).each(kinds)('%s is read as it was filled', async (kind, options) => {
  using directory = tempDirectory();
  const source = join(directory.path, 'source');
  mkdirSync(source);
  populate(source);
  if (kind === 'ext2') rmSync(join(source, 'empty')); // Its times are whole seconds since 1970.
  // mke2fs cuts it to a block when its beginning fits the inode, as debugfs shows.
  if (kind.includes('in inodes')) rmSync(join(source, 'sparse'));
  const image = join(directory.path, 'image');
  execFileSync('mke2fs', ['-q', ...options, '-d', source, image, '200M'], { stdio: 'pipe' });
  const found = describeTar(await tarOf(image), join(directory.path, 'found'));
  const withoutTimes = (tree: Record<string, string>): Record<string, string> =>
    Object.fromEntries(Object.entries(tree).map(([name, text]) => [name, text.replace(/mtime -?\d+/, '')]));
  // mke2fs rounds times; those of our own writer are compared below.
  expect(withoutTimes(found)).toEqual(withoutTimes(describeTree(source)));
});

test.skipIf(process.getuid?.() !== 0)(
  'what our writer made of a tar comes out as it went in, attributes included',
  async () => {
    using directory = tempDirectory();
    const source = join(directory.path, 'source');
    mkdirSync(source);
    populate(source);
    execFileSync('mknod', [join(source, 'null'), 'c', '1', '3']);
    execFileSync('mknod', [join(source, 'far'), 'b', '259', '70000']);
    execFileSync('chown', ['70000:4000000', join(source, 'large')]);
    execFileSync('chmod', ['6755', join(source, 'large')]);
    const tar = execFileSync('tar', ['-c', '--format=posix', '--numeric-owner', '-C', source, '.'], {
      maxBuffer: 2 ** 28,
    });
    const { image } = await convert(directory.path, [tar]);
    const out = await tarOf(image);
    expect(describeTar(out, join(directory.path, 'found'))).toEqual(describeTree(source));

    // Once more through both: nothing gets lost, and equal filesystems give equal tars.
    mkdirSync(join(directory.path, 'again'));
    const again = await convert(join(directory.path, 'again'), [out]);
    expect((await tarOf(again.image)).equals(out)).toBe(true);
    const obstacle = mountObstacle();
    if (obstacle !== undefined) return void process.stderr.write(`not compared with a mount: ${obstacle}\n`);
    using mount = mounted(image);
    expect(describeTree(join(directory.path, 'found'))).toEqual(describeTree(mount.path));
  },
);

test('extended attributes and ACLs are kept', async () => {
  using directory = tempDirectory();
  const acl = Buffer.from(
    '0200000001000700ffffffff0200060064000000040005 00ffffffff10000700ffffffff20000500ffffffff'.replaceAll(
      ' ',
      '',
    ),
    'hex',
  );
  const xattrs = {
    'user.a': Buffer.from('one'),
    'user.big': Buffer.alloc(3000, 'x'),
    'system.posix_acl_access': acl,
  };
  const { image } = await convert(directory.path, [
    [
      {
        path: 'file',
        type: '0',
        data: 'x',
        pax: Object.fromEntries(
          Object.entries(xattrs).map(([name, value]) => [`SCHILY.xattr.${name}`, value.toString('latin1')]),
        ),
      },
    ],
  ]);
  const tar = (await tarOf(image)).toString('latin1');
  for (const [name, value] of Object.entries(xattrs))
    expect(tar).toContain(`SCHILY.xattr.${name}=${value.toString('latin1')}\n`);
});

test('others get their turns while a large hole is read', async () => {
  using directory = tempDirectory();
  const source = join(directory.path, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'hole'), '');
  truncateSync(join(source, 'hole'), 2 ** 30 + 2 ** 20);
  const image = join(directory.path, 'image');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', source, image, '16M'], { stdio: 'pipe' });
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const hash = createHash('sha256');
  // What comes before and behind the hole is read from the disk, which gives turns.
  const turnsInside: number[] = [];
  let size = 0;
  for await (const chunk of layerTar(image)) {
    hash.update(chunk);
    size += chunk.length;
    if (size > 2 ** 20 && size < 2 ** 30) turnsInside.push(turns);
  }
  clearInterval(timer);
  expect(new Set(turnsInside).size).toBeGreaterThan(5);
});

/** A filesystem that has a bit of everything, as the ground for damage. */
async function ground(directory: string): Promise<string> {
  const source = join(directory, 'source');
  mkdirSync(source);
  populate(source);
  const image = join(directory, 'ground');
  execFileSync(
    'mke2fs',
    [
      '-q',
      '-t',
      'ext4',
      '-b',
      '1024',
      '-O',
      'inline_data,^metadata_csum',
      '-I',
      '256',
      '-d',
      source,
      image,
      '24M',
    ],
    { stdio: 'pipe' },
  );
  return image;
}

test(
  'a damaged filesystem ends in an error or in data: never a crash, never for ever',
  { timeout: 240_000 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'banger-damage-'));
    using closing = new DisposableStack();
    try {
      const image = await ground(directory);
      const pristine = readFileSync(image);
      const mutant = join(directory, 'mutant');
      copyFileSync(image, mutant);
      const file = openSync(mutant, 'r+');
      closing.defer(() => closeSync(file));
      // Superblock, descriptors and the inode tables of the first groups are where numbers lead somewhere.
      const place = fc.oneof(
        fc.integer({ min: 1024, max: 2047 }),
        fc.integer({ min: 2048, max: 4095 }),
        fc.integer({ min: 4096, max: 900_000 }),
        fc.nat(pristine.length - 8),
      );
      const value = fc.oneof(fc.constantFrom(0, 1, 0xff, 0xffff, 0xffffffff, 0x80000000), fc.nat(0xffffffff));
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(place, value, fc.constantFrom(1, 2, 4)), { minLength: 1, maxLength: 12 }),
          async (changes) => {
            for (const [at, number, width] of changes) {
              const bytes = Buffer.alloc(width);
              bytes.writeUIntLE(number % 2 ** (8 * width), 0, width);
              writeSync(file, bytes, 0, width, at);
            }
            let size = 0;
            try {
              for await (const chunk of layerTar(mutant)) {
                size += chunk.length;
                expect(chunk.length).toBeLessThanOrEqual(4 * 1024 * 1024);
                // A hole may be as large as a file can be, and reading zeros is no danger, only long.
                if (size > 512 * 1024 * 1024) break;
              }
            } catch (error) {
              expect(error).toBeInstanceOf(DamagedFilesystem);
            } finally {
              for (const [at, , width] of changes) writeSync(file, pristine, at, width, at);
            }
          },
        ),
        { numRuns: 80 },
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
);

test.each([
  ['is empty', Buffer.alloc(0), 'is not ext4'],
  ['is zeros', Buffer.alloc(1 << 20), 'is not ext4'],
  ['is text', Buffer.from('hello '.repeat(2000)), 'is not ext4'],
])('a file that %s is refused', async (_, content, why) => {
  using directory = tempDirectory();
  const path = join(directory.path, 'file');
  writeFileSync(path, content);
  await expect(tarOf(path)).rejects.toThrow(why);
});

test('a filesystem that is cut off, or was not unmounted, is refused', async () => {
  using directory = tempDirectory();
  const image = await ground(directory.path);
  const bytes = readFileSync(image);
  const cut = join(directory.path, 'cut');
  writeFileSync(cut, bytes.subarray(0, bytes.length - 1024));
  await expect(tarOf(cut)).rejects.toThrow('is cut off');
  bytes.writeUInt16LE(0, 1024 + 0x3a);
  writeFileSync(cut, bytes);
  await expect(tarOf(cut)).rejects.toThrow('was not unmounted cleanly');
});

test('a file whose name would hide another one from whoever reads the layer is refused by name', async () => {
  using directory = tempDirectory();
  const source = join(directory.path, 'source');
  mkdirSync(join(source, 'etc'), { recursive: true });
  writeFileSync(join(source, 'etc/keep'), '');
  writeFileSync(join(source, 'etc/.wh.keep'), '');
  const image = join(directory.path, 'image');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', source, image, '8M'], { stdio: 'pipe' });
  await expect(tarOf(image)).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringContaining('a file "etc/.wh.keep"') as string,
  });
});
