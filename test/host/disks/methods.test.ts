import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DiskMethodName, RootDisk } from '../../../src/host/disks/disk-method.ts';
import { diskMethod } from '../../../src/host/disks/methods.ts';
import { DiskProbes, probeReflink } from '../../../src/host/disks/probe.ts';
import { shareBlocks } from '../../../src/host/disks/raw-files.ts';
import { exec } from '../../../src/host/exec.ts';
import { syncDirectory } from '../../../src/host/files.ts';
import { withLoopFilesystem } from '../../support/loop-filesystem.ts';
import { withSmallDisk } from '../../support/small-disk.ts';

const mib = 1024 * 1024;
const work = () => ({ signal: new AbortController().signal });

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-disks-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A filesystem's stand-in: some data, a hole of gigabytes if wanted, some data at the end. */
function makeImage(directory: string, sizeBytes = 32 * mib, dataBytes = mib): string {
  const path = join(directory, 'rootfs.ext4');
  const file = openSync(path, 'w');
  writeSync(file, Buffer.alloc(dataBytes, 'begin'), 0, dataBytes, 0);
  writeSync(file, Buffer.alloc(4096, 'end'), 0, 4096, sizeBytes - 4096);
  closeSync(file);
  return path;
}

function diskIn(directory: string, sizeBytes: number, backing = makeImage(directory)): RootDisk {
  const imageBytes = statSync(backing).size;
  return { id: 'a'.repeat(32), path: join(directory, 'disk'), backing, imageBytes, sizeBytes };
}

const allocated = (path: string): number => statSync(path).blocks * 512;

/** By QEMU's own eyes. What one has more must be zeros. */
function compare({ backing, path }: RootDisk, format: string): string {
  const argv = ['compare', '-f', 'raw', '-F', format, backing, path];
  return execFileSync('qemu-img', argv, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

describe.each<DiskMethodName>(['qcow2', 'copy', 'reflink'])('a disk by %s', (name) => {
  const method = diskMethod(exec, name);
  const on = (context: { skip(note: string): void }, check: (directory: string) => Promise<void>) =>
    name === 'reflink' ? withLoopFilesystem(context, 'xfs', check) : check(root);

  test('has what the image has, and zeros beyond, however often it grows', async (context) => {
    await on(context, async (directory) => {
      const disk = diskIn(directory, 48 * mib);
      await method.create(disk, work());
      expect(compare(disk, method.format)).toContain('Images are identical');
      for (const sizeBytes of [64 * mib, 56 * mib]) await method.grow({ ...disk, sizeBytes });
      expect(compare(disk, method.format)).toContain('Images are identical');
      const info = execFileSync('qemu-img', ['info', '--output=json', '-f', method.format, disk.path]);
      expect((JSON.parse(info.toString()) as { 'virtual-size': number })['virtual-size']).toBe(64 * mib);
    });
  });

  test('is a file of its own: the image is not written', async (context) => {
    await on(context, async (directory) => {
      const disk = diskIn(directory, 48 * mib);
      const before = execFileSync('sha256sum', [disk.backing]).toString();
      await method.create(disk, work());
      execFileSync('qemu-io', ['-f', method.format, '-c', 'write -P 7 0 1M', disk.path], { stdio: 'ignore' });
      expect(execFileSync('sha256sum', [disk.backing]).toString()).toBe(before);
    });
  });

  test('is refused on a filesystem without room, which is told with its place', async (context) => {
    await withSmallDisk(context, '70m', async (small) => {
      const backing = makeImage(root, 32 * mib, 16 * mib);
      small.fill();
      const disk = { ...diskIn(small.path, 48 * mib, backing) };
      await expect(method.create(disk, work())).rejects.toMatchObject({
        code: 'host_unsupported',
        message: expect.stringContaining(small.path) as string,
      });
    });
  });
});

describe.each([
  ['copy', 'ext4'],
  ['copy', 'xfs'],
  ['reflink', 'xfs'],
  ['qcow2', 'ext4'],
] as const)('a disk by %s on %s', (name, kind) => {
  test('is whole after a power cut, if its directory was flushed', async (context) => {
    const method = diskMethod(exec, name);
    await withLoopFilesystem(context, kind, async (directory, { cutPower }) => {
      const disk = diskIn(directory, 48 * mib);
      execFileSync('sync', ['-f', directory]);
      await method.create(disk, work());
      await syncDirectory(directory);
      cutPower();
      await method.grow(disk);
      expect(compare(disk, method.format)).toContain('Images are identical');
    });
  });
});

test.each(['copy', 'reflink', 'qcow2'] as const)(
  'a disk by %s that was cut off is not filled up with zeros, but told',
  async (name) => {
    const disk = diskIn(root, 48 * mib);
    for (const bytes of [0, name === 'qcow2' ? 20 : 16 * mib]) {
      writeFileSync(disk.path, Buffer.alloc(bytes));
      await expect(diskMethod(exec, name).grow(disk)).rejects.toMatchObject({
        code: 'invalid_state',
        message: expect.stringMatching(/was cut off, as by a power cut/) as string,
        hint: expect.stringContaining(`banger vm delete ${'a'.repeat(12)}`) as string,
      });
      expect(statSync(disk.path).size).toBe(bytes);
    }
  },
);

test.each(['copy', 'reflink'] as const)(
  'a disk by %s grows from what it had, also when its image was made again larger than that',
  async (name) => {
    const grown = { ...diskIn(root, 48 * mib), hadBytes: 8 * mib };
    expect(grown.imageBytes).toBeGreaterThan(8 * mib);
    writeFileSync(grown.path, '');
    truncateSync(grown.path, 8 * mib);
    await diskMethod(exec, name).grow(grown);
    expect(statSync(grown.path).size).toBe(48 * mib);
    truncateSync(grown.path, 8 * mib - 1);
    await expect(diskMethod(exec, name).grow(grown)).rejects.toMatchObject({ code: 'invalid_state' });
  },
);

test('a copy of 10 GB of holes has none of them filled, and takes no time for them', async () => {
  const backing = makeImage(root, 10 * 1024 * mib);
  const disk = diskIn(root, 12 * 1024 * mib, backing);
  await diskMethod(exec, 'copy').create(disk, work());
  expect(statSync(disk.path).size).toBe(12 * 1024 * mib);
  expect(allocated(disk.path)).toBeLessThanOrEqual(allocated(backing) + 64 * 1024);
  expect(allocated(disk.path)).toBeLessThan(2 * mib);
});

test('a copy makes a hole of zeros that the image has written', async () => {
  const backing = makeImage(root, 32 * mib);
  const file = openSync(backing, 'r+');
  writeSync(file, Buffer.alloc(8 * mib), 0, 8 * mib, 4 * mib);
  closeSync(file);
  const disk = diskIn(root, 32 * mib, backing);
  await diskMethod(exec, 'copy').create(disk, work());
  expect(allocated(backing)).toBeGreaterThan(8 * mib);
  expect(allocated(disk.path)).toBeLessThan(2 * mib);
  expect(compare(disk, 'raw')).toContain('Images are identical');
});

test('a copy that fills the disk half way says so, with the path', async (context) => {
  await withSmallDisk(context, '200m', async (small) => {
    // Its room is there when it is looked for, and gone when it is needed.
    const backing = makeImage(root, 32 * mib, 16 * mib);
    const disk = diskIn(small.path, 48 * mib, backing);
    const filling: typeof exec = (argv, options) => {
      small.fill();
      return exec(argv, options);
    };
    await expect(diskMethod(filling, 'copy').create(disk, work())).rejects.toMatchObject({
      code: 'host_unsupported',
      message: `The disk is full: no space left to write "${disk.path}"`,
      hint: expect.stringContaining('banger') as string,
    });
  });
});

test('a copy that is cancelled ends at once', async () => {
  const disk = diskIn(root, 32 * mib);
  const controller = new AbortController();
  const cancelling: typeof exec = (_argv, options) => {
    const running = exec(['sleep', '60'], options);
    controller.abort();
    return running;
  };
  const copying = diskMethod(cancelling, 'copy').create(disk, { signal: controller.signal });
  await expect(copying).rejects.toMatchObject({ code: 'cancelled' });
});

for (const kind of ['xfs', 'btrfs'] as const) {
  test(`reflinks work on ${kind}: a disk of an image takes no blocks of its own`, async (context) => {
    await withLoopFilesystem(context, kind, async (directory) => {
      expect(await probeReflink(directory)).toEqual({ works: true, reason: 'works' });
      const backing = makeImage(directory, 64 * mib, 48 * mib);
      execFileSync('sync', ['-f', directory]);
      const free = (): number => Number(execFileSync('stat', ['-f', '-c', '%f', directory])) * 4096;
      const before = free();
      const disk = diskIn(directory, 96 * mib, backing);
      await diskMethod(exec, 'reflink').create(disk, work());
      execFileSync('sync', ['-f', directory]);
      expect(before - free()).toBeLessThan(4 * mib);
      expect(compare(disk, 'raw')).toContain('Images are identical');
      expect(readdirSync(directory).filter((name) => name.includes('probe'))).toEqual([]);
    });
  });
}

test('on btrfs a directory whose files have no checksums shares no blocks of an image that has some', async (context) => {
  await withLoopFilesystem(context, 'btrfs', async (directory) => {
    const backing = makeImage(directory, 32 * mib, 8 * mib);
    const vms = join(directory, 'vms');
    mkdirSync(vms);
    const probes = new DiskProbes(exec);
    expect((await probes.reflink(vms, backing)).works).toBe(true);
    execFileSync('chattr', ['+C', vms]);
    expect((await probes.reflink(vms)).works).toBe(true);
    expect(await probes.reflink(vms, backing)).toEqual({
      works: false,
      reason: 'this filesystem shares no blocks of the image',
    });
    expect(readdirSync(vms)).toEqual([]);
  });
});

/** Does what a copy of a file does on ZFS while the file is not on disk: nothing. */
const unwritten = (times: number) => {
  let asked = 0;
  const copy: typeof copyFile = async (from, to) => {
    if (asked++ < times) throw Object.assign(new Error('EAGAIN: copyfile'), { code: 'EAGAIN' });
    await copyFile(from, to);
  };
  return copy;
};

test('blocks that are not on disk yet are waited for, and not for ever', async () => {
  const from = makeImage(root, mib, 4096);
  await shareBlocks(from, join(root, 'to'), { copy: unwritten(2) });
  expect(statSync(join(root, 'to')).size).toBe(mib);
  const never = { copy: unwritten(Infinity), timeoutMs: 0 };
  await expect(shareBlocks(from, join(root, 'other'), never)).rejects.toMatchObject({ code: 'EAGAIN' });
  const share = (source: string, to: string) => shareBlocks(source, to, never);
  expect(await probeReflink(root, { share })).toEqual({
    works: false,
    reason: 'this filesystem is slow to share blocks',
  });
});

test('where there are no reflinks, that is found out, told, and nothing is left', async (context) => {
  await withLoopFilesystem(context, 'ext4', async (directory) => {
    expect(await probeReflink(directory)).toEqual({
      works: false,
      reason: 'this filesystem has no reflinks',
    });
    const disk = diskIn(directory, 48 * mib);
    await expect(diskMethod(exec, 'reflink').create(disk, work())).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringContaining('cannot share the blocks') as string,
      hint: expect.stringContaining('method = "auto"') as string,
    });
    expect(readdirSync(directory).toSorted()).toEqual(['lost+found', 'rootfs.ext4']);
  });
});

test('an image on another filesystem cannot be shared, and that is told', async (context) => {
  await withLoopFilesystem(context, 'xfs', async (directory) => {
    const disk = diskIn(directory, 48 * mib, makeImage(root));
    await expect(diskMethod(exec, 'reflink').create(disk, work())).rejects.toThrow(/EXDEV/);
  });
});

test('a disk in qcow2 names the image it stands on, read as plain, and takes no room of its own', async () => {
  const disk = diskIn(root, 4096 * mib, makeImage(root, 512 * mib, 16 * mib));
  await diskMethod(exec, 'qcow2').create(disk, work());
  const info = execFileSync('qemu-img', ['info', '--output=json', '-f', 'qcow2', disk.path]);
  expect(JSON.parse(info.toString())).toMatchObject({
    format: 'qcow2',
    'virtual-size': 4096 * mib,
    'backing-filename': disk.backing,
    'backing-filename-format': 'raw',
  });
  expect(allocated(disk.path)).toBeLessThan(mib);
});
