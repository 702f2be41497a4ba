import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { guestKernel, kernelFiles } from '../../../../src/engine/images/kernels/find-kernel.ts';
import { importKernel } from '../../../../src/engine/images/kernels/import-kernel.ts';
import { embeddedKernel } from '../../../../src/host/drivers/firecracker/version.ts';
import { kernelPaths } from '../../../../src/state/layout.ts';
import { listKernels } from '../../../../src/state/kernels.ts';
import { recordedOperation } from '../../../support/image-context.ts';
import { file, tarOf } from '../../../support/tar-builder.ts';
import { load, remains, world } from '../../../support/kernel-imports.ts';
import {
  bzImage,
  compressors,
  cpioFiles,
  everything,
  kernelPackage,
  tinyKernel,
} from '../../../support/kernels.ts';

const debian = kernelPackage();

test(
  "Debian's package gives the kernel and the modules that the build embeds",
  { timeout: 120_000 },
  async ({ skip }) => {
    if ('missing' in debian) skip(debian.missing);
    const context = world();
    const kernel = await load(context, 'path' in debian ? debian.path : '');
    expect(kernel).toMatchObject({ format: 'elf', warnings: [], names: [kernel.version] });
    // The embedded one is the same.
    expect(kernel.readsDeviceWords).toBe(embeddedKernel.readsDeviceWords);
    const files = await kernelFiles(context, kernel.id);
    const embedded = cpioFiles(readFileSync(resolve('dist/assets/modules.cpio')));
    const imported = cpioFiles(readFileSync(files.modules));
    expect([...imported.keys()].toSorted()).toEqual([...embedded.keys()].toSorted());
    for (const [name, content] of embedded) expect(imported.get(name)!.equals(content), name).toBe(true);
  },
);

test('an import can be cancelled in the middle of a file of its package', async () => {
  const context = world();
  const entry = file('boot/vmlinuz-1', Buffer.alloc(16 * 1024 * 1024));
  const path = context.file('package.tar.gz', gzipSync(tarOf([entry])));
  const operation = recordedOperation();
  const progress = operation.progress.bind(operation);
  operation.progress = (told) => {
    progress(told);
    operation.cancel();
  };
  const request = { path, modulesPath: undefined, name: 'x', source: 'import' as const, origin: path };
  await expect(importKernel(context, request, operation)).rejects.toMatchObject({ code: 'cancelled' });
  expect(operation.progressed).toHaveLength(1);
  expect(operation.progressed[0]?.done).toBeLessThan(4 * 1024 * 1024);
  expect(remains(context)).toEqual([]);
});

test(
  'a kernel file and a directory with its modules give what the package gives',
  { timeout: 120_000 },
  async ({ skip }) => {
    if ('missing' in debian) skip(debian.missing);
    const context = world();
    const unpacked = join(context.directory, 'unpacked');
    execFileSync('dpkg-deb', ['-x', 'path' in debian ? debian.path : '', unpacked]);
    const [file = ''] = readdirSync(join(unpacked, 'boot')).filter((name) => name.startsWith('vmlinuz-'));
    const root = existsSync(join(unpacked, 'usr/lib/modules')) ? 'usr/lib/modules' : 'lib/modules';
    const modulesPath = join(unpacked, root, file.slice('vmlinuz-'.length));
    const kernel = await load(context, join(unpacked, 'boot', file), { modulesPath });
    const { modules } = await kernelFiles(context, kernel.id);
    const embedded = cpioFiles(readFileSync(resolve('dist/assets/modules.cpio')));
    expect([...cpioFiles(readFileSync(modules)).keys()].toSorted()).toEqual([...embedded.keys()].toSorted());
  },
);

test.each(Object.keys(compressors) as (keyof typeof compressors)[])(
  'a bzImage packed with %s is unpacked',
  async (name) => {
    const context = world();
    const elf = tinyKernel();
    const image = bzImage(compressors[name](elf), { unpackedBytes: elf.length, isGzip: name === 'gzip' });
    const kernel = await load(context, context.file('vmlinuz', image));
    expect(kernel).toMatchObject({ version: '6.1.0-test', format: 'elf', names: ['6.1.0-test'] });
    expect(readFileSync((await kernelFiles(context, kernel.id)).kernel).equals(elf)).toBe(true);
  },
);

/** A configuration as kernels carry it, with these options and what a guest needs. */
function configOf(...options: readonly string[]): string {
  const needed = ['VIRTIO', 'VIRTIO_PCI', 'VIRTIO_BLK', 'VIRTIO_NET', 'EXT4_FS'];
  const lines = [...needed, ...options].map(
    (option) => `CONFIG_${option}=y
`,
  );
  return `IKCFG_ST${gzipSync(lines.join('')).toString('latin1')}IKCFG_ED`;
}

test.each([
  ['nothing of it', [], false],
  ['the code for it', ['virtio-mmio-cmdline'], true],
  ['only a longer text', ['virtio-mmio-cmdlines'], false],
  ['a configuration with it', [configOf('VIRTIO_MMIO', 'VIRTIO_MMIO_CMDLINE_DEVICES')], true],
  ['a configuration without', ['virtio-mmio-cmdline', configOf('VIRTIO_MMIO')], false],
  ['a configuration in which it is a module', [configOf('VIRTIO_MMIO_CMDLINE_DEVICES')], false],
] as const)(
  'a kernel that has %s is known by that to read names of devices, or not',
  async (_, more, reads) => {
    const context = world();
    const texts = [...everything, ...more];
    const kernel = await load(context, context.file('vmlinux', tinyKernel({ texts })), { name: 'mine' });
    expect(kernel.readsDeviceWords).toBe(reads);
    expect(guestKernel(context.db, kernel.id)).toEqual({ name: 'mine', readsDeviceWords: reads });
    expect(JSON.parse(readFileSync(kernelPaths(context.layout, kernel.id).manifest, 'utf8'))).toMatchObject({
      readsDeviceWords: reads,
    });
  },
);

test('of a kernel that was imported before that was looked at it is not known, until it is imported again', async () => {
  const context = world();
  const path = context.file('vmlinux', tinyKernel());
  const { id } = await load(context, path, { name: 'mine' });
  context.db.prepare('UPDATE kernels SET reads_device_words = NULL').run();
  expect(guestKernel(context.db, id)).toEqual({ name: 'mine', readsDeviceWords: undefined });
  await load(context, path, { name: 'mine' });
  expect(guestKernel(context.db, id)).toEqual({ name: 'mine', readsDeviceWords: false });
  expect(guestKernel(context.db, undefined)).toBe(embeddedKernel);
});

test('a kernel without the entry point for VMs boots as the bzImage it came in', async () => {
  const context = world();
  const elf = tinyKernel({ hasPvh: false });
  const image = bzImage(compressors.zstd(elf), { unpackedBytes: elf.length });
  const kernel = await load(context, context.file('vmlinuz', image));
  expect(kernel.format).toBe('bzimage');
  expect(readFileSync((await kernelFiles(context, kernel.id)).kernel).equals(image)).toBe(true);
  await expect(load(context, context.file('vmlinux', elf), { name: 'bare' })).rejects.toThrow('CONFIG_PVH');
});

test.each([
  ['the kernel', 'vmlinux', (path: string) => truncateSync(path, 100), true],
  ['what boots instead', 'bzImage', (path: string) => truncateSync(path, 100), true],
  ['the modules', 'modules', (path: string) => truncateSync(path, 100), true],
  // Of the same size, which no boot reads it for.
  ['a bit', 'bzImage', (path: string) => writeFileSync(path, readFileSync(path).with(600, 0xaa)), false],
] as const)('of a kernel that lost %s another import brings it back', async (_, file, damage, isNoticed) => {
  const context = world();
  const elf = tinyKernel({ hasPvh: false });
  const path = context.file('vmlinuz', bzImage(compressors.zstd(elf), { unpackedBytes: elf.length }));
  const kernel = await load(context, path, { name: 'x' });
  const there = kernelPaths(context.layout, kernel.id)[file];
  const content = readFileSync(there);
  damage(there);
  if (isNoticed)
    await expect(kernelFiles(context, kernel.id)).rejects.toThrow(
      'The files of kernel "x" are gone or damaged',
    );
  expect((await load(context, path, { name: 'x' })).id).toBe(kernel.id);
  expect(readFileSync(there).equals(content)).toBe(true);
  await kernelFiles(context, kernel.id);
  expect(remains(context)).toEqual([kernel.id]);
});

const elf = tinyKernel();
const packed = compressors.lz4(elf);
test.each([
  [
    'a length beyond the file',
    bzImage(packed, { unpackedBytes: elf.length, payloadLength: 0x7fffffff }),
    'truncated or damaged',
  ],
  [
    'a header that is cut off',
    bzImage(packed, { unpackedBytes: elf.length }).subarray(0, 0x210),
    'header is cut off',
  ],
  [
    'more than the kernel says it needs',
    bzImage(packed, { unpackedBytes: elf.length, initBytes: 100 }),
    'asks for 100',
  ],
  ['more than it says', bzImage(packed, { unpackedBytes: 50 }), 'unpacks to more than 50 bytes'],
  ['less than it says', bzImage(packed, { unpackedBytes: elf.length + 9 }), 'instead of'],
  [
    'a bomb',
    bzImage(compressors.lz4(Buffer.alloc(32 * 1024 ** 2)), { unpackedBytes: 1000 }),
    'unpacks to more than',
  ],
  ['lzma', bzImage(Buffer.from([0x5d, 0, 0, 1, 2, 3, 4, 5]), { unpackedBytes: 9 }), 'compressed with lzma'],
  ['nothing known', bzImage(Buffer.from('whatever this is'), { unpackedBytes: 9 }), 'unknown way'],
  ['segments beyond the file', elf.with(72, 0xff).with(79, 0x7f), 'truncated'],
  ['another processor', elf.with(18, 183), 'is a kernel for arm64'],
  ['32 bits', elf.with(4, 1), 'not a kernel of 64 bits'],
  ['no version', tinyKernel({ version: '%s' }), 'does not say "Linux version"'],
  ['no drivers', tinyKernel({ texts: ['ext4'] }), 'has no virtio_pci, virtio_blk, virtio_net built in'],
  ['a text', Buffer.from('#!/bin/sh\n'), 'is not a Linux kernel'],
  ['an empty file', Buffer.alloc(0), 'is not a Linux kernel'],
  [
    'a damaged package',
    Buffer.from('!<arch>\ndebian-binary   0           0     0     100644  99999999999`\n'),
    'damaged Debian package',
  ],
])('%s is refused, and nothing is left', async (_, bytes, why) => {
  const context = world();
  const path = context.file('kernel', Buffer.from(bytes));
  await expect(load(context, path, { name: 'x' })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining(why),
  });
  expect(remains(context)).toEqual([]);
  expect(listKernels(context.db)).toEqual([]);
});

test('modules of another kernel are refused by version', async () => {
  const context = world();
  const modulesPath = join(context.directory, 'lib/modules/6.2.0');
  mkdirSync(join(modulesPath, 'kernel'), { recursive: true });
  const path = context.file('vmlinux', elf);
  await expect(load(context, path, { modulesPath: context.directory })).rejects.toThrow(
    'no modules of Linux 6.1.0-test',
  );
});

test.each(['kernel', 'modules'] as const)('a file of its %s that is not there is named', async (missing) => {
  const context = world();
  const nowhere = join(context.directory, 'nowhere');
  // Whatever is wrong with the kernel: it is not read first, which takes seconds.
  const paths = missing === 'kernel' ? [nowhere] : [context.file('kernel', Buffer.from('none')), nowhere];
  await expect(load(context, paths[0]!, { modulesPath: paths[1] })).rejects.toMatchObject({
    code: 'not_found',
    message: `There is no file "${nowhere}"`,
    hint: expect.stringContaining('banger kernel import --help'),
  });
});
