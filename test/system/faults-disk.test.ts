import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, type TestContext } from 'vitest';
import type { VmView } from '../../src/engine/rpc/vm-methods.ts';
import { collect, makeDirectory, openBanger, until, type Banger, type Ran } from '../support/banger.ts';
import { debianLayout } from '../support/images.ts';
import { putImage, startRegistry } from '../support/registry.ts';
import { withSmallDisk, type SmallDisk } from '../support/small-disk.ts';
import { file, tarOf } from '../support/tar-builder.ts';

/** A program with all it owns on a small disk; both go when the test is over. */
async function onSmallDisk(
  context: TestContext,
  size: string,
  work: (banger: Banger, disk: SmallDisk) => Promise<void>,
): Promise<void> {
  await withSmallDisk(context, size, async (disk) => {
    await using banger = openBanger(makeDirectory(disk.path, 'home'));
    try {
      await work(banger, disk);
    } finally {
      // What is left is deleted, which takes a disk that can be written to.
      disk.remount('rw,size=1g');
      disk.makeRoom();
    }
  });
}

/** A refusal as people want it: what and why on one line, what to do on the next, and nothing on stdout. */
function refusal({ code, stdout, stderr }: Ran, what: RegExp): void {
  const lines = stderr.trimEnd().split('\n');
  const at = lines.findIndex((line) => line.startsWith('banger: '));
  expect(stderr).not.toContain('bug in banger');
  expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' });
  expect(lines[at], stderr).toMatch(what);
  expect(lines[at + 1], stderr).toMatch(/^ {2}\S/);
}

test('F13: a disk that is full refuses what writes, with its place, and lets go on what makes room', async (context) => {
  await onSmallDisk(context, '160m', async (banger, disk) => {
    await banger.ok(['vm', 'create', '--no-start', '--name', 'web']);
    const before = await banger.json<VmView>('vm', 'show', 'web');
    const files = listing(banger.home);
    disk.fill();

    refusal(await banger.run(['vm', 'create', '--no-start', '--name', 'no']), /disk is full/i);
    refusal(await banger.run(['vm', 'start', 'web']), /disk is full/i);
    refusal(
      await banger.run(['image', 'import', await debianLayout(), '--name', 'deb']),
      /full|no space left|no room for the image/i,
    );
    // A start that failed is one that ended.
    expect(await banger.json('vm', 'show', 'web')).toEqual({
      ...before,
      stoppedAt: expect.any(String) as unknown,
      lastError: expect.stringContaining('The disk is full') as unknown,
    });
    expect(await banger.json('image', 'list')).toHaveLength(1);
    expect(listing(banger.home)).toEqual(files);

    // The database has room of its own.
    for (const cpus of ['2', '3', '2']) await banger.ok(['vm', 'set', 'web', '--cpus', cpus]);

    // An engine that starts on a full disk has to be of use: deleting is what makes room.
    await banger.ok(['engine', 'stop']);
    await banger.ok(['vm', 'delete', 'web']);
    disk.makeRoom();
    await banger.ok(['vm', 'create', '--no-start', '--name', 'web']);
  });
});

/** Every file below, but for what the engine has open and may grow. */
function listing(home: string): string[] {
  return readdirSync(home, { recursive: true, encoding: 'utf8' })
    .filter((path) => !/banger\.db|engine\.l/.test(path))
    .sort();
}

test('F14, F15: a home on a filesystem that is read-only is refused as that, and works when it no longer is', async (context) => {
  await onSmallDisk(context, '160m', async (banger, disk) => {
    disk.remount('ro');
    refusal(await banger.run(['vm', 'list']), /read-only/);
    disk.remount('rw');
    expect(readdirSync(banger.home)).toEqual(['config.toml']);
    await banger.ok(['vm', 'create', '--no-start', '--name', 'web']);
    await banger.ok(['engine', 'stop']);
    await until('the engine has let go of its files', () => {
      try {
        disk.remount('ro');
        return true;
      } catch {
        return false;
      }
    });
    for (const args of [
      ['vm', 'list'],
      ['vm', 'create'],
      ['image', 'list'],
      ['engine', 'stop'],
    ]) {
      const ran = await banger.run(args);
      if (args[1] !== 'stop') refusal(ran, /read-only/);
    }
    disk.remount('rw');
    expect(await banger.json('vm', 'list')).toMatchObject([{ name: 'web' }]);
  });
});

test('F16: a guest that fills the disk of its host waits, unharmed, for room', async (context) => {
  await onSmallDisk(context, '1g', async (banger, disk) => {
    await banger.ok(['vm', 'create', '--name', 'greedy']);
    disk.remount(`size=${usedMib(disk.path) + 24}m`);
    const writing = banger.run(['vm', 'exec', 'greedy', '--', 'sh', '-c', fillScript]);
    const show = (): Promise<VmView> => banger.json<VmView>('vm', 'show', 'greedy');
    await until('the guest is paused', async () => (await show()).state === 'paused');
    const hint = 'banger vm resume greedy';
    expect((await show()).lastError).toBe(
      `The host's disk is full, so the guest was paused at a write. Make room, then: ${hint}`,
    );
    // The engine lives, on the same full disk.
    expect(await banger.json('vm', 'list')).toMatchObject([{ name: 'greedy', state: 'paused' }]);

    disk.remount('size=1g');
    await banger.ok(['vm', 'resume', 'greedy']);
    const { code, stdout, stderr } = await writing;
    expect({ code, stdout: stdout.trim() }, stderr).toEqual({ code: 0, stdout: 'same' });
    await banger.guest('greedy', 'touch /ok');
    expect((await show()).lastError).toBeUndefined();
  });
});

test('F24: with its downloads on another filesystem an image is the same, to the byte', async (context) => {
  await using registry = await startRegistry();
  const layer = tarOf([file('etc/os-release', 'ID=test\n'), file('blob', 'x'.repeat(300_000))]);
  putImage(registry, 'test', { tag: 'v1', layers: [layer.toString('latin1')] });
  await withSmallDisk(context, '160m', async (disk) => {
    await using plain = openBanger();
    const apart = openBanger();
    const cache = makeDirectory(apart.home, 'cache');
    execFileSync('mount', ['--bind', disk.path, cache]);
    try {
      expect(statSync(cache).dev).not.toBe(statSync(apart.home).dev);
      const hash = await rootfsHash(apart, `${registry.host}/test:v1`);
      expect(readdirSync(cache, { recursive: true }).join()).toMatch(/[0-9a-f]{64}/);
      expect(await rootfsHash(plain, `${registry.host}/test:v1`)).toBe(hash);
    } finally {
      execFileSync('umount', ['-l', cache]);
      await apart[Symbol.asyncDispose]();
    }
  });
});

/** Pulls an image, makes a VM of it, and hashes its filesystem without reading its holes. */
async function rootfsHash(banger: Banger, name: string): Promise<string> {
  await banger.ok(['image', 'pull', name]);
  await banger.ok(['vm', 'create', '--no-start', '--image', name]);
  const { id } = await banger.json<{ id: string }>('image', 'show', name);
  const tar = 'tar --sparse --mtime=@0 --owner=0 --group=0 --mode=600 -cf - rootfs.ext4 | sha256sum';
  return execFileSync('sh', ['-c', tar], { cwd: join(banger.home, 'state/images', id), encoding: 'utf8' });
}

/** Writes 64 MiB past every cache, and reads them again. */
const fillScript = `
  dd if=/dev/urandom of=/once bs=1M count=1 2>/dev/null
  for i in $(seq 64); do cat /once; done > /many; sync
  echo 3 > /proc/sys/vm/drop_caches
  for i in $(seq 64); do cat /once; done | cmp - /many && echo same
`;

function usedMib(path: string): number {
  const used = execFileSync('df', ['--output=used', '-B1M', path], { encoding: 'utf8' });
  return Number.parseInt(used.split('\n')[1]!, 10);
}

test('F11: with 64 descriptors it works; with fewer it says so; VMs that run are not harmed', async () => {
  await using banger = openBanger();
  await banger.ok(['vm', 'create', '--name', 'before']);
  const limited = async (limit: number, ...args: string[]): Promise<Ran> => {
    await banger.run(['engine', 'stop']);
    await until('the engine has ended', async () => (await banger.enginePid()) === undefined);
    return collect(
      spawn('sh', ['-c', `ulimit -n ${limit}; exec "$0" "$@"`, ...banger.argv, ...args], {
        cwd: banger.home,
        env: banger.env,
      }),
    );
  };
  expect(await limited(64, 'vm', 'exec', 'before', '--', 'echo', 'well')).toMatchObject({ stdout: 'well\n' });
  for (const limit of [32, 28, 24])
    refusal(await limited(limit, 'vm', 'create', '--name', `with-${limit}`), /too many open files/i);
  await banger.run(['engine', 'stop']);
  expect(await banger.json('vm', 'list')).toMatchObject([{ name: 'before', state: 'running' }]);
  expect(await banger.guest('before', 'echo well')).toBe('well');
});
