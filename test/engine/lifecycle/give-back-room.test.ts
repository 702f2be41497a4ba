import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { DamagedFilesystem } from '../../../src/engine/images/ext4-reader/damage.ts';
import { giveBackRoom } from '../../../src/engine/lifecycle/give-back-room.ts';
import { startVm } from '../../../src/engine/lifecycle/start-vm.ts';
import { stopVm } from '../../../src/engine/lifecycle/stop-vm.ts';
import { abortError } from '../../../src/errors.ts';
import { exec, type Exec } from '../../../src/host/exec.ts';
import { vmPaths } from '../../../src/state/layout.ts';
import { getVm } from '../../../src/state/vms.ts';
import { until } from '../../support/banger.ts';
import { fakeEngine } from '../../support/fake-engine.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { withLoopFilesystem } from '../../support/loop-filesystem.ts';
import { createTestVm } from '../../support/vm-world.ts';

const mib = 1024 ** 2;
const never = new AbortController().signal;
let root: string;
let template: string;
beforeAll(
  () => void (template = makeUsedDisk(join(mkdtempSync(join(tmpdir(), 'banger-test-')), 'disk'), usual)),
);
afterAll(() => rmSync(dirname(template), { recursive: true, force: true }));
beforeEach(() => void (root = mkdtempSync(join(tmpdir(), 'banger-test-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

const allocated = (path: string): number => statSync(path).blocks * 512;
const hash = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');
const debugfs = (path: string, ...commands: readonly string[]): string =>
  execFileSync('debugfs', ['-w', '-f', '-', path], {
    encoding: 'utf8',
    input: commands.join('\n'),
    stdio: ['pipe', 'pipe', 'ignore'],
  });
const fsck = (path: string): number | null => spawnSync('e2fsck', ['-fn', path]).status;

const sizeBytes = 40 * mib;
const usual: readonly string[] = ['-b', '4096'];

/** A disk of which every block has been written to, with a file of 10 MiB that was deleted, and one that was kept. */
function usedDisk(path = join(root, 'disk'), options = usual): string {
  if (options !== usual) return makeUsedDisk(path, options);
  copyFileSync(template, path);
  return path;
}

function makeUsedDisk(path: string, options: readonly string[]): string {
  const tree = mkdtempSync(join(tmpdir(), 'banger-test-'));
  try {
    mkdirSync(join(tree, 'kept'));
    writeFileSync(join(tree, 'kept', 'file'), randomBytes(2 * mib));
    writeFileSync(join(tree, 'big'), randomBytes(10 * mib));
    writeFileSync(path, Buffer.alloc(sizeBytes, 'old'));
    // As the kernel leaves a disk that was in use: every group has its bitmap.
    const whole = ['-E', 'nodiscard,lazy_itable_init=0', ...options];
    execFileSync('mkfs.ext4', ['-q', '-F', ...whole, '-d', tree, path]);
    debugfs(path, 'rm /big');
    return path;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function keptFile(path: string): string {
  const copy = join(root, 'copy');
  rmSync(copy, { force: true });
  debugfs(path, `dump /kept/file ${copy}`);
  return hash(copy);
}

test('what a filesystem does not use is given back, and what is in it stays as it was', async () => {
  const path = usedDisk();
  const [kept, before] = [keptFile(path), allocated(path)];
  expect(fsck(path)).toBe(0);
  const given = await giveBackRoom(exec, path, never);
  expect(given).toBeGreaterThan(20 * mib);
  expect(allocated(path)).toBe(before - given);
  expect([fsck(path), keptFile(path), statSync(path).size]).toEqual([0, kept, sizeBytes]);
  expect(await giveBackRoom(exec, path, never)).toBe(0);
});

test.each([
  ['blocks of 1 KiB', ['-b', '1024']],
  ['many groups, none of them flexible', ['-b', '4096', '-O', '^flex_bg', '-g', '2048']],
  ['descriptors of 32 bytes', ['-O', '^64bit']],
  ['no journal', ['-O', '^has_journal']],
])('a filesystem with %s is read right', async (_, options) => {
  const path = usedDisk(undefined, options);
  const kept = keptFile(path);
  expect(await giveBackRoom(exec, path, never)).toBeGreaterThan(15 * mib);
  expect([fsck(path), keptFile(path)]).toEqual([0, kept]);
});

const damage: readonly (readonly [string, (path: string) => void])[] = [
  ['was not unmounted', (path) => void debugfs(path, 'ssv state 0')],
  ['has errors', (path) => void debugfs(path, 'ssv state 3')],
  ['has a journal that is not played back', (path) => void debugfs(path, 'feature needs_recovery')],
  ['has orphans', (path) => void debugfs(path, 'ssv last_orphan 12')],
  ['has a wrong count', (path) => void debugfs(path, 'set_bg 0 free_blocks_count 1')],
  ['has a bitmap with another bit', (path) => flip(path, bitmapOf(path))],
  ['has a descriptor with another bit', (path) => flip(path, 4096 + 0x4)],
  ['has a superblock with another bit', (path) => flip(path, 1024 + 0x78)],
  ['has no checksums', (path) => void usedDisk(path, ['-O', '^metadata_csum'])],
  ['counts in clusters', (path) => void usedDisk(path, ['-O', 'bigalloc'])],
  ['is cut off', (path) => execFileSync('truncate', ['-s', '20M', path])],
  ['is none', (path) => writeFileSync(path, Buffer.alloc(mib, 1))],
];
test.each(damage)('a filesystem that %s is left as it is', async (_, damageIt) => {
  const path = usedDisk();
  damageIt(path);
  const before = hash(path);
  const none: Exec = () => Promise.reject(new Error('started'));
  await expect(giveBackRoom(none, path, never)).rejects.toBeInstanceOf(DamagedFilesystem);
  // What was punched would be zeros.
  expect(hash(path)).toBe(before);
});

function bitmapOf(path: string): number {
  return Number(/block bitmap at (\d+)/.exec(debugfs(path, 'stats'))![1]) * 4096 + 4000;
}

function flip(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 0x10;
  writeFileSync(path, bytes);
}

test('an image that shares its blocks with a disk keeps them', (context) =>
  withLoopFilesystem(context, 'xfs', async (directory) => {
    const [image, disk] = [usedDisk(join(directory, 'image')), join(directory, 'disk')];
    copyFileSync(image, disk, constants.COPYFILE_FICLONE_FORCE);
    const [before, kept] = [hash(image), keptFile(disk)];
    expect(await giveBackRoom(exec, disk, never)).toBeGreaterThan(20 * mib);
    expect([hash(image), keptFile(disk), fsck(disk)]).toEqual([before, kept, 0]);
  }));

/** An engine with a stopped VM, whose disk is a used one, once what is to be done has begun. */
async function stopWith(driver: 'qemu' | 'firecracker', punch: Exec = exec) {
  const fake = fakeEngine();
  onTestFinished(() => fake.close());
  fake.faults.driver = driver;
  const asked: string[] = [];
  const context = {
    ...fake.context,
    config: () => ({ ...fake.context.config(), diskMethod: 'copy' as const }),
    exec: ((argv, options) => {
      if (argv[0] === 'cp') return Promise.resolve(void usedDisk(argv.at(-1)!)).then(() => output);
      if (argv[0] !== 'fallocate') return fake.context.exec(argv, options);
      asked.push(argv.slice(0, 2).join(' '));
      return punch(argv, options);
    }) satisfies Exec,
  };
  const engine = { ...fake, context };
  const vm = await createTestVm(engine);
  const disk = vmPaths(context.layout, vm.id).disk('copy');
  await stopVm(context, { id: vm.id, timeoutMs: 1_000 }, fakeOperation().operation);
  return { engine, vm, disk, asked };
}
const output = { exitCode: 0, stdout: Buffer.alloc(0), stderr: '' };

test('a VM that Firecracker ran gives back what its guest deleted once it has stopped', async () => {
  const { engine, disk, asked } = await stopWith('firecracker');
  await until('room is given back', () => engine.log.some((line) => line.includes('was given back')));
  expect(asked[0]).toBe('fallocate --punch-hole');
  expect(allocated(disk)).toBeLessThan(sizeBytes - 20 * mib);
});

test("QEMU's needs none of it: it has given back what was discarded", async () => {
  const { engine, vm, asked } = await stopWith('qemu');
  await engine.context.locks.vm.run(vm.id, never, async () => undefined);
  expect(asked).toEqual([]);
});

test('a start does not wait for it, and it goes on at no running VM', async () => {
  const begun = Promise.withResolvers<void>();
  const { engine, vm, asked } = await stopWith('firecracker', (_, options) => {
    begun.resolve();
    return new Promise((_resolve, reject) =>
      options!.signal!.addEventListener('abort', () => reject(abortError(options!.signal!))),
    );
  });
  await begun.promise;
  await startVm(engine.context, vm.id, fakeOperation().operation);
  expect(getVm(engine.context.db, vm.id).state).toBe('running');
  expect(asked).toHaveLength(1);
  expect(engine.log.filter((line) => line.includes('not given back'))).toEqual([]);
});
