import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeShortTempDirectory, openBanger, type Banger } from '../support/banger.ts';
import { putImage, startRegistry, type FakeRegistry } from '../support/registry.ts';
import { file, tarOf } from '../support/tar-builder.ts';
import { testBuild } from '../support/test-build.ts';

/** A home on a filesystem of its own, which can be filled. */
const canMount = process.getuid!() === 0;
const reason = canMount ? '' : ' (skipped: mounting a small filesystem takes root)';

describe.skipIf(!canMount)(`a disk that is full${reason}`, () => {
  const mountPoint = makeShortTempDirectory();
  const home = join(mountPoint, 'h');
  const filler = join(home, 'filler');
  let banger: Banger;
  let registry: FakeRegistry;

  beforeAll(async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=300m', 'banger-test', mountPoint]);
    mkdirSync(home);
    banger = openBanger(home, testBuild);
    banger.configure('[vm]\nmemory = "128M"\n\n[vmm]\naccel = "tcg"\n');
    registry = await startRegistry();
    putImage(registry, 'test', {
      tag: 'v1',
      layers: [tarOf([file('blob', 'x'.repeat(3_000_000))]).toString('latin1')],
    });
    await banger.ok(['vm', 'create', '--name', 'kept']);
    await banger.guest('kept', 'echo kept > /root/file');
    await banger.ok(['vm', 'stop', 'kept']);
    fill();
  });
  afterAll(async () => {
    rmSync(filler, { force: true });
    await banger[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    execFileSync('umount', ['-l', mountPoint]);
    rmSync(mountPoint, { recursive: true });
  });

  /** Leaves room for rows and log lines, and for nothing else. */
  function fill(): void {
    const { bavail, bsize } = statfsSync(home);
    writeFileSync(filler, Buffer.alloc(bavail * bsize - 512 * 1024));
  }

  const fails = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await banger.run(args);
    expect(code, stderr).toBe(1);
    return stderr;
  };

  test('no VM is made, nothing is pulled: it is said why, where, and what to do', async () => {
    for (const args of [
      ['vm', 'create', '--name', 'new'],
      ['image', 'pull', `${registry.host}/test:v1`],
    ]) {
      const words = await fails(...args);
      expect(words).toMatch(/is full|is no room/);
      expect(words).toContain(home);
      expect(words).toMatch(/banger (?:image|vm) (?:list|prune)/);
      expect(words).not.toContain('bug in banger');
    }
    const vms = await banger.json<{ name: string; state: string }[]>('vm', 'list');
    expect(vms).toMatchObject([{ name: 'kept', state: 'stopped' }]);
    expect(await banger.ok(['image', 'list', '-q'])).not.toContain('test');
  });

  test('once there is room again all of it works, and what was there is there still', async () => {
    rmSync(filler);
    await banger.ok(['vm', 'start', 'kept']);
    expect(await banger.guest('kept', 'cat /root/file')).toBe('kept');
    await banger.ok(['image', 'pull', `${registry.host}/test:v1`]);
  });
});
