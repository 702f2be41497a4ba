import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { identify } from '../../../src/engine/images/rootfs-file.ts';
import { chooseDiskMethod } from '../../../src/engine/lifecycle/choose-disk.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { insertImage } from '../../../src/state/images.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';
import { withSmallDisk } from '../../support/small-disk.ts';
import { createTestVm } from '../../support/vm-world.ts';

let engine: FakeEngine;
/** Where it was tried whether files share their blocks */
let asked: [string, string | undefined][];
beforeEach(() => {
  engine = fakeEngine();
  asked = [];
});
afterEach(() => engine.close());

const choose = (
  host: { readonly wantsRaw?: boolean; readonly hasReflinks?: boolean; readonly config?: string },
  imageId = testImageId,
) => {
  const context: EngineContext = {
    ...engine.context,
    config: () => parseConfig(host.config ?? '', 'config.toml'),
    wantsRawDisk: async () => host.wantsRaw ?? false,
    diskProbes: {
      ...engine.context.diskProbes,
      reflink: async (directory, from) => {
        asked.push([directory, from]);
        return { works: host.hasReflinks ?? false, reason: 'for this test' };
      },
    },
  };
  return chooseDiskMethod(context, { imageId, network: 'user', cpus: 1 });
};

test('a VMM that reads plain disks gets one that shares its blocks with the image, where there are reflinks', async () => {
  expect(await choose({ wantsRaw: true, hasReflinks: true })).toBe('reflink');
  const { vmsDirectory, imagesDirectory } = engine.context.layout;
  expect(asked).toEqual([[vmsDirectory, expect.stringContaining(imagesDirectory)]]);
});

test('without reflinks it gets a copy', async () => {
  expect(await choose({ wantsRaw: true, hasReflinks: false })).toBe('copy');
});

test('an image on another filesystem is copied, whatever the filesystem of VMs can do', async (context) => {
  const other = '/dev/shm';
  const { stateDirectory } = engine.context.layout;
  const device = statSync(other, { throwIfNoEntry: false })?.dev;
  if (device === undefined || device === statSync(stateDirectory).dev)
    return context.skip(`${other} is no filesystem of its own`);
  const directory = mkdtempSync(join(other, 'banger-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'rootfs.ext4');
  writeFileSync(path, 'x'.repeat(1024));
  const id = 'b'.repeat(64);
  insertImage(engine.context.db, {
    id,
    source: 'import',
    sizeBytes: 1024,
    contentBytes: 1024,
    config: { env: [] },
    layers: [],
    osRelease: {},
    hasShell: true,
    external: await identify(path),
    createdAt: new Date().toISOString(),
  });
  expect(await choose({ wantsRaw: true, hasReflinks: true }, id)).toBe('copy');
});

test('QEMU gets an overlay, and reflinks are not tried for it', async () => {
  expect(await choose({ hasReflinks: true })).toBe('qcow2');
  expect(asked).toEqual([]);
});

test.each(['qcow2', 'reflink', 'copy', 'dm-snapshot'])(
  '%s is taken when the configuration says so, and nothing is tried',
  async (method) => {
    const config = `[disk]\nmethod = "${method}"\n`;
    expect(await choose({ config, wantsRaw: true, hasReflinks: true })).toBe(method);
    expect(asked).toEqual([]);
  },
);

test('an overlay for Firecracker is refused, with what to do: it cannot read one', async () => {
  const config = '[disk]\nmethod = "qcow2"\n[vmm]\ndriver = "firecracker"\n';
  await expect(choose({ config, wantsRaw: true })).rejects.toMatchObject({
    code: 'invalid_argument',
    message: 'Firecracker, on which the configuration insists, cannot read qcow2 disks',
    hint: expect.stringContaining('method = "auto"') as string,
  });
});

test('where VMs are on another filesystem than the state, that one decides, and its room', async (context) => {
  await withSmallDisk(context, '70m', async (small) => {
    const { vmsDirectory, stateDirectory } = engine.context.layout;
    mkdirSync(stateDirectory, { recursive: true });
    symlinkSync(small.path, vmsDirectory);
    // The image is beside the state, which has no part in it.
    expect(await choose({ wantsRaw: true, hasReflinks: true })).toBe('copy');
    small.fill();
    await expect(createTestVm(engine, { start: false })).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringContaining(`at "${vmsDirectory}"`) as string,
    });
    small.makeRoom();
    const { id } = await createTestVm(engine, { start: false });
    expect(readdirSync(small.path)).toEqual([id]);
  });
});
