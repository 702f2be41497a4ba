import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RootDisk } from '../../../src/host/disks/disk-method.ts';
import { dmSnapshot, fileBytes } from '../../../src/host/disks/dm-snapshot.ts';
import { probeDmSnapshot } from '../../../src/host/disks/probe.ts';
import { fakeDevices, type FakeDevices } from '../../support/fake-devices.ts';
import { fakeExec } from '../../support/fakes.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { withLoopFilesystem } from '../../support/loop-filesystem.ts';

const mib = 1024 * 1024;
const id = 'a'.repeat(32);
/** Commands that an attach runs when nothing goes wrong. */
const attachCommands = 9;

let root: string;
let disk: RootDisk;
let devices: FakeDevices;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-dm-'));
  disk = {
    id,
    path: join(root, 'disk.cow'),
    backing: join(root, 'rootfs.ext4'),
    imageBytes: 0,
    sizeBytes: 64 * mib,
  };
  for (const path of [disk.path, disk.backing]) {
    writeFileSync(path, '');
    truncateSync(path, 32 * mib);
  }
  devices = fakeDevices();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const method = () => dmSnapshot(devices.exec, { busyTimeoutMs: 500 });
const record = (): string => `${disk.path}.devices.json`;

function expectNothing(): void {
  expect([...devices.mappings.keys()]).toEqual([]);
  expect([...devices.loops.keys()]).toEqual([]);
  expect(existsSync(record())).toBe(false);
}

test('a disk is the image with zeros behind it, and a file for what changes', async () => {
  expect(await method().attach(disk)).toBe('/dev/dm-1');
  const minor = 'dmsetup info --columns --noheadings --options minor';
  const list = 'losetup --list --noheadings --raw --output NAME --associated';
  expect(devices.commands).toEqual([
    `${list} ${disk.backing}`,
    `losetup --find --show --read-only ${disk.backing}`,
    `dmsetup create banger-${id}-base --readonly`,
    `${minor} banger-${id}-base`,
    `${list} ${disk.path}`,
    `losetup --find --show ${disk.path}`,
    `dmsetup create banger-${id}`,
    `${minor} banger-${id}`,
    `dmsetup status banger-${id}`,
  ]);
  expect(devices.commands).toHaveLength(attachCommands);
  expect(devices.mappings.get(`banger-${id}-base`)).toBe('0 65536 linear /dev/loop0 0\n65536 65536 zero\n');
  expect(devices.mappings.get(`banger-${id}`)).toBe(`0 131072 snapshot /dev/dm-0 /dev/loop1 P 32\n`);
});

test('udev is kept from what guests write, by rules that are there before a device is', async () => {
  const udevDirectory = join(root, 'udev');
  const rules = join(udevDirectory, 'rules.d', '11-banger.rules');
  const withUdev = dmSnapshot(devices.exec, { udevDirectory });
  // A host without it.
  await withUdev.attach(disk);
  expect(existsSync(udevDirectory)).toBe(false);

  mkdirSync(udevDirectory);
  writeFileSync(join(udevDirectory, 'control'), '');
  const order = async () => {
    devices.commands.length = 0;
    await withUdev.attach(disk);
    return devices.commands
      .filter((line) => /^udevadm|^dmsetup create/.test(line))
      .map((line) => line.split(' ')[0]);
  };
  expect(await order()).toEqual(['udevadm', 'dmsetup', 'dmsetup']);
  const text = readFileSync(rules, 'utf8');
  // No line of it goes on in a comment, and all of the flags are set of ours alone.
  const [rule, ...others] = text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line && !line.startsWith('#'));
  expect(others).toEqual([]);
  expect(rule).toMatch(/KERNEL=="dm-\*", ATTR\{dm\/name\}=="banger-\*",/);
  for (const flag of ['DISK_RULES', 'SUBSYSTEM_RULES', 'OTHER_RULES'])
    expect(rule).toContain(`ENV{DM_UDEV_DISABLE_${flag}_FLAG}="1"`);
  expect(rule).toContain('OPTIONS:="nowatch"');
  expect(statSync(rules).mode & 0o777).toBe(0o644);
  expect(statSync(join(udevDirectory, 'rules.d')).mode & 0o777).toBe(0o755);
  expect(await order()).toEqual(['dmsetup', 'dmsetup']);
  for (const spoil of [() => rmSync(rules), () => writeFileSync(rules, '# nothing')]) {
    spoil();
    expect(await order()).toEqual(['udevadm', 'dmsetup', 'dmsetup']);
    expect(readFileSync(rules, 'utf8')).toBe(text);
  }
});

test('one that the kernel has thrown away is told as lost, and not given to a guest', async () => {
  devices.throwAway(`banger-${id}`);
  await expect(method().attach(disk)).rejects.toMatchObject({
    code: 'invalid_state',
    message: expect.stringMatching(/is lost: the kernel has thrown its snapshot away \(Invalid\)/) as string,
    hint: expect.stringContaining(`banger vm delete ${id.slice(0, 12)}`) as string,
  });
  expectNothing();
});

test('on a filesystem that keeps no room for what is written again, none is made, and it is named', async (context) => {
  await withLoopFilesystem(context, 'btrfs', async (directory) => {
    const path = join(directory, 'disk.cow');
    const { signal } = new AbortController();
    await expect(method().create({ ...disk, path }, { signal })).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringMatching(/^btrfs at ".*" keeps no room/) as string,
    });
    expect(existsSync(path)).toBe(false);
    expect(await probeDmSnapshot(devices.exec, directory)).toMatchObject({
      works: false,
      reason: expect.stringMatching(/^btrfs at/) as string,
    });
  });
});

test('it is taken down in reverse, and once more does no harm', async () => {
  await method().attach(disk);
  devices.commands.length = 0;
  await method().detach(disk);
  expect(devices.commands.filter((line) => /remove|detach/.test(line))).toEqual([
    `dmsetup remove banger-${id}`,
    'losetup --detach /dev/loop1',
    `dmsetup remove banger-${id}-base`,
    'losetup --detach /dev/loop0',
  ]);
  expectNothing();
  await method().detach(disk);
});

test.each(['replaced', 'deleted'])(
  'an image that is %s while its device is there does not keep the device',
  async (change) => {
    await method().attach(disk);
    rmSync(disk.backing);
    if (change === 'replaced') writeFileSync(disk.backing, 'another one');
    const foreign = change === 'replaced' ? [devices.addForeignLoop(disk.backing)] : [];
    await method().detach(disk);
    expect([...devices.mappings.keys()]).toEqual([]);
    expect([...devices.loops.keys()]).toEqual(foreign);
    expect(existsSync(record())).toBe(false);
  },
);

test('attached twice it is one disk, of the size that is asked for last', async () => {
  await method().attach(disk);
  await method().attach({ ...disk, sizeBytes: 96 * mib });
  expect(devices.mappings.size).toBe(2);
  expect(devices.loops.size).toBe(2);
  expect(devices.mappings.get(`banger-${id}`)).toMatch(/^0 196608 /);
});

describe.each([
  { isDone: false, what: 'before it did anything' },
  { isDone: true, what: 'after it was done' },
])('a command that fails $what', ({ isDone }) => {
  test.each([...Array(attachCommands).keys()])('as number %i leaves nothing', async (count) => {
    devices.failAt(count, { isDone, isLast: false });
    await expect(method().attach(disk)).rejects.toThrow('told to fail');
    expectNothing();
    await method().attach(disk);
  });

  test.each([...Array(attachCommands).keys()])(
    'as number %i, with all that follow as after a kill -9, leaves what the next one finds and takes down',
    async (count) => {
      const foreign = devices.addForeignLoop(disk.backing);
      devices.failAt(count, { isDone, isLast: true });
      await expect(method().attach(disk)).rejects.toThrow('told to fail');
      devices.failAt(Infinity, { isDone, isLast: false });
      await method().detach(disk);
      expect([...devices.mappings.keys()]).toEqual([]);
      // Of the same file, and there before: somebody else's.
      expect([...devices.loops.keys()]).toEqual([foreign]);
      expect(existsSync(record())).toBe(false);
    },
  );
});

test('a device that is held for a moment is removed when it is let go', async () => {
  await method().attach(disk);
  devices.keepBusy(`banger-${id}`, 3);
  await dmSnapshot(devices.exec).detach(disk);
  expectNothing();
});

test('one that is held for long is told with how to find out by whom, and all below it stays written down', async () => {
  await method().attach(disk);
  devices.keepBusy(`banger-${id}`, 1000);
  await expect(method().detach(disk)).rejects.toMatchObject({
    code: 'busy',
    message: `Device "banger-${id}" is held by another program and cannot be removed`,
    hint: `See by whom with: lsblk; sudo fuser -v /dev/mapper/banger-${id}`,
  });
  expect(devices.loops.size).toBe(2);
  devices.keepBusy(`banger-${id}`, 0);
  await method().detach(disk);
  expectNothing();
});

test('on a full disk devices are taken down as anywhere: that makes room', (context) =>
  withSmallDisk(context, '1m', async (small) => {
    const mine = { ...disk, path: join(small.path, 'disk.cow') };
    writeFileSync(mine.path, '');
    await method().attach(mine);
    small.fill();
    await method().detach(mine);
    expect([...devices.mappings.keys(), ...devices.loops.keys()]).toEqual([]);
    expect(existsSync(`${mine.path}.devices.json`)).toBe(false);
  }));

test('what was written down before the host was started anew is not taken for what is there now', async () => {
  await method().attach(disk);
  const written = JSON.parse(readFileSync(record(), 'utf8')) as object;
  writeFileSync(record(), JSON.stringify({ ...written, bootId: 'another' }));
  devices.commands.length = 0;
  await method().detach(disk);
  expect(devices.commands).toEqual([]);
  expect(existsSync(record())).toBe(false);
});

test('its room is taken at once, enough for every block to be changed', async () => {
  const { exec, commands } = fakeExec();
  const signal = new AbortController().signal;
  await dmSnapshot(exec).create({ ...disk, sizeBytes: 1024 * mib }, { signal });
  // A header, 65,536 chunks of 16 KiB, a table for every 1,024 of them, and one to spare.
  const bytes = (1 + 65_536 + 64 + 1) * 16 * 1024;
  expect(fileBytes(1024 * mib)).toBe(bytes);
  expect(commands).toEqual([`fallocate -l ${bytes} ${disk.path}`]);
});

test('a larger disk takes more room; one that is large enough is left alone', async () => {
  const { exec, commands } = fakeExec();
  await dmSnapshot(exec).grow({ ...disk, sizeBytes: 16 * mib });
  expect(commands).toEqual([]);
  await dmSnapshot(exec).grow({ ...disk, sizeBytes: 64 * mib });
  expect(commands).toEqual([`fallocate -l ${fileBytes(64 * mib)} ${disk.path}`]);
});

test('room that there is none of is refused before anything is made', async () => {
  const { exec, commands } = fakeExec();
  const signal = new AbortController().signal;
  const creating = dmSnapshot(exec).create({ ...disk, sizeBytes: 2 ** 50 }, { signal });
  await expect(creating).rejects.toMatchObject({
    code: 'host_unsupported',
    message: expect.stringContaining('no room') as string,
  });
  expect(commands).toEqual([]);
});
