import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { pruneBuilds } from '../../src/host/asset-cache.ts';
import { buildInfo, directoryAssets, loadAddon } from '../../src/host/assets.ts';

const kernel = Buffer.alloc(700_000, 'kernel');
const addon = resolve('node_modules/better-sqlite3/prebuilds/linux-x64.node');
const day = 24 * 60 * 60 * 1000;

let root: string;
let stored: string;
let cache: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-assets-'));
  stored = join(root, 'stored');
  cache = join(root, 'home/cache/assets');
  mkdirSync(stored);
  writeFileSync(join(stored, 'vmlinux.zst'), zstdCompressSync(kernel));
  writeFileSync(join(stored, 'modules.cpio'), 'modules');
  writeFileSync(join(stored, 'better_sqlite3.node'), readFileSync(addon));
  writeManifest(kernel.length);
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

test('an asset is unpacked under its own name, decompressed and read-only', async () => {
  const assets = directoryAssets(stored, cache);
  const path = await assets.file('vmlinux.zst');
  expect(path).toBe(join(cache, assets.buildId, 'vmlinux'));
  expect(readFileSync(path).equals(kernel)).toBe(true);
  expect(modeOf(path)).toBe(0o400);
  expect(modeOf(cache)).toBe(0o700);
  expect(modeOf(join(cache, assets.buildId))).toBe(0o700);
});

test('an asset that is unpacked already is not written again', async () => {
  const first = statSync(await directoryAssets(stored, cache).file('vmlinux.zst'));
  const second = statSync(await directoryAssets(stored, cache).file('vmlinux.zst'));
  expect(second.ino).toBe(first.ino);
});

test('callers at the same time get one file and leave no temporary ones', async () => {
  const processes = [1, 2, 3].map(() => directoryAssets(stored, cache));
  const paths = await Promise.all(
    processes.flatMap((assets) => [assets.file('vmlinux.zst'), assets.file('vmlinux.zst')]),
  );
  expect(new Set(paths).size).toBe(1);
  expect(readdirSync(join(cache, processes[0]!.buildId))).toEqual(['vmlinux']);
});

test('a file that was cut short, or that lost its mode, is unpacked again', async () => {
  const assets = directoryAssets(stored, cache);
  const path = await assets.file('vmlinux.zst');
  chmodSync(path, 0o600);
  truncateSync(path, 1000);
  expect(statSync(await assets.file('vmlinux.zst')).size).toBe(kernel.length);

  chmodSync(path, 0o644);
  await assets.file('vmlinux.zst');
  expect(modeOf(path)).toBe(0o400);
});

test('a file that is gone from the cache is unpacked again', async () => {
  const assets = directoryAssets(stored, cache);
  rmSync(await assets.file('modules.cpio'));
  expect(readFileSync(await assets.file('modules.cpio'), 'utf8')).toBe('modules');
});

test('an asset that does not have the announced size is refused and leaves nothing', async () => {
  writeManifest(kernel.length + 1);
  const assets = directoryAssets(stored, cache);
  await expect(assets.file('vmlinux.zst')).rejects.toThrow('700000 bytes instead of 700001');
  expect(readdirSync(join(cache, assets.buildId))).toEqual([]);
});

test('a damaged asset is refused, and can be had once it is repaired', async () => {
  const assets = directoryAssets(stored, cache);
  writeFileSync(join(stored, 'vmlinux.zst'), 'not zstd');
  await expect(assets.file('vmlinux.zst')).rejects.toThrow('cannot be unpacked');
  writeFileSync(join(stored, 'vmlinux.zst'), zstdCompressSync(kernel));
  expect(statSync(await assets.file('vmlinux.zst')).size).toBe(kernel.length);
});

test('a cache that others can write to is refused', async () => {
  mkdirSync(cache, { recursive: true });
  chmodSync(cache, 0o777);
  await expect(directoryAssets(stored, cache).file('modules.cpio')).rejects.toThrow(
    'is open to other users (mode 777)',
  );
});

test('a symbolic link in place of the build directory is refused', async () => {
  const assets = directoryAssets(stored, cache);
  mkdirSync(cache, { recursive: true, mode: 0o700 });
  symlinkSync(stored, join(cache, assets.buildId));
  await expect(assets.file('modules.cpio')).rejects.toThrow('is not a directory');
});

test('a symbolic link in place of a file is replaced, and what it points to is left alone', async () => {
  const assets = directoryAssets(stored, cache);
  const victim = join(root, 'victim');
  writeFileSync(victim, 'mine');
  mkdirSync(join(cache, assets.buildId), { recursive: true, mode: 0o700 });
  chmodSync(cache, 0o700);
  symlinkSync(victim, join(cache, assets.buildId, 'modules.cpio'));
  expect(readFileSync(await assets.file('modules.cpio'), 'utf8')).toBe('modules');
  expect(readFileSync(victim, 'utf8')).toBe('mine');
});

test('open streams an asset decompressed, without the cache', async () => {
  const assets = directoryAssets(stored, cache);
  expect((await buffer(assets.open('vmlinux.zst'))).equals(kernel)).toBe(true);
  expect((await buffer(assets.open('modules.cpio'))).toString()).toBe('modules');
  expect(() => statSync(cache)).toThrow('ENOENT');
});

test('open reports a missing asset on the stream', async () => {
  await expect(buffer(directoryAssets(stored, cache).open('base.tar.zst'))).rejects.toThrow('ENOENT');
});

test('a changed asset changes the build id', () => {
  const before = directoryAssets(stored, cache).buildId;
  writeFileSync(join(stored, 'modules.cpio'), 'other modules');
  expect(directoryAssets(stored, cache).buildId).not.toBe(before);
});

test('builds that nobody used for 30 days are pruned; the current one and foreign files stay', async () => {
  const old = ['dev-00000001', '00000000000000ab', 'dev-00000002', 'notours'];
  for (const id of [...old, 'dev-00000003']) {
    mkdirSync(join(cache, id), { recursive: true, mode: 0o700 });
    writeFileSync(join(cache, id, 'vmlinux'), '', { mode: 0o400 });
  }
  writeFileSync(join(cache, 'dev-00000002', 'notes.txt'), 'mine', { mode: 0o644 });
  const now = Date.now();
  for (const id of old) setTime(join(cache, id), now - 31 * day);
  setTime(join(cache, 'dev-00000003'), now - 29 * day);

  await pruneBuilds(cache, '00000000000000ab', now);
  expect(readdirSync(cache).sort()).toEqual(['00000000000000ab', 'dev-00000002', 'dev-00000003', 'notours']);
  expect(readdirSync(join(cache, 'dev-00000002'))).toEqual(['notes.txt']);
});

test('what a killed process left half-written is removed after an hour', async () => {
  const directory = join(cache, 'dev-00000001');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const now = Date.now();
  for (const name of ['.vmlinux.12.0123456789ab', '.vmlinux.13.0123456789ab']) {
    writeFileSync(join(directory, name), '');
  }
  setTime(join(directory, '.vmlinux.12.0123456789ab'), now - 2 * 60 * 60 * 1000);
  await pruneBuilds(cache, 'dev-00000001', now);
  expect(readdirSync(directory)).toEqual(['.vmlinux.13.0123456789ab']);
});

test('the addon is loaded from the cache', async () => {
  const assets = directoryAssets(stored, cache);
  expect(await loadAddon(assets)).toHaveProperty('Database');
  expect(modeOf(join(cache, assets.buildId, 'better_sqlite3.node'))).toBe(0o500);
});

test('with a cache mounted noexec, the addon is loaded from a file that is gone again', async () => {
  const tried: string[] = [];
  const loaded = await loadAddon(directoryAssets(stored, cache), (path) => {
    tried.push(path);
    if (path.startsWith(cache)) throw new Error(`${path}: failed to map segment from shared object`);
    return { size: statSync(path).size, links: statSync(path).nlink };
  });
  expect(loaded).toEqual({ size: statSync(addon).size, links: 0 });
  expect(tried[1]).toMatch(/^\/proc\/self\/fd\/\d+$/);
});

test('an addon that cannot be loaded for another reason is reported as it is', async () => {
  const load = (): never => {
    throw new Error('undefined symbol');
  };
  await expect(loadAddon(directoryAssets(stored, cache), load)).rejects.toThrow('undefined symbol');
});

test('run from source, the build id says so and the version is that of the package', () => {
  expect(buildInfo()).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/) as string,
    buildId: expect.stringMatching(/^dev-[0-9a-f]{8}$/) as string,
  });
});

function writeManifest(unpackedBytes: number): void {
  writeFileSync(
    join(stored, 'manifest.json'),
    JSON.stringify({ files: [{ name: 'vmlinux.zst', unpackedBytes }] }),
  );
}

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

function setTime(path: string, time: number): void {
  utimesSync(path, time / 1000, time / 1000);
}
