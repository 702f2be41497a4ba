import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { debugfs, expectClean } from '../engine/images/layers/image-inspector.ts';
import { makeShortTempDirectory, programArgv, type Ran } from '../support/banger.ts';
import { directory, file, tarOf } from '../support/tar-builder.ts';

/** A user who is not root, for whom the kernel says no. */
const nobody = 65_534;
/** By its path: what it starts may have none. */
const setpriv = '/usr/bin/setpriv';
const canBecome = process.getuid!() === 0;
const reason = canBecome ? '' : ' (skipped: becoming another user takes root)';

describe.skipIf(!canBecome)(`a user who is not root${reason}`, () => {
  const place = makeShortTempDirectory();
  const home = join(place, 'home');
  const program = join(place, 'banger');
  let programs = process.env['PATH'];

  beforeAll(() => {
    const [binary, script] = programArgv();
    if (script !== undefined)
      throw new Error('This needs a packed program: other users cannot read this tree');
    chmodSync(place, 0o755);
    copyFileSync(binary, program);
    chmodSync(program, 0o755);
    mkdirSync(home, { mode: 0o700 });
    chownSync(home, nobody, nobody);
    expect(run('image', 'list')).toMatchObject({ code: 0, stderr: '' });
    run('engine', 'stop');
  });
  afterAll(() => {
    run('engine', 'stop');
    rmSync(place, { recursive: true });
  });

  function run(...args: string[]): Omit<Ran, 'bytes'> {
    const identity = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups', '--no-new-privs'];
    const env = { PATH: programs, HOME: home, BANGER_HOME: home, TMPDIR: place };
    const ran = spawnSync(setpriv, [...identity, '--', program, ...args], { cwd: '/', env });
    return { code: ran.status, stdout: ran.stdout.toString(), stderr: ran.stderr.toString() };
  }

  /** Gives something to root, with no right for others, and returns how to give it back. */
  function takeAway(path: string): () => void {
    const wasThere = existsSync(path);
    const isFile = path.endsWith('.toml');
    if (!wasThere && isFile) writeFileSync(path, '');
    else if (!wasThere) mkdirSync(path);
    const { mode } = statSync(path);
    chownSync(path, 0, 0);
    chmodSync(path, mode & 0o700);
    return () => {
      if (!wasThere) return rmSync(path, { recursive: true });
      chownSync(path, nobody, nobody);
      chmodSync(path, mode);
    };
  }

  test('makes an image with devices and with files of others, and no program of the host', () => {
    const entries = [
      directory('dev'),
      { path: 'dev/zero', type: '3', major: 1, minor: 5, mode: 0o666 },
      file('bin/su', 'su', { mode: 0o4755, uid: 7, gid: 8 }),
    ];
    writeFileSync(join(place, 'rootfs.tar'), tarOf(entries));
    programs = '/nowhere';
    try {
      const { code, stderr } = run('image', 'import', join(place, 'rootfs.tar'), '--name', 'made');
      expect(code, stderr).toBe(0);
      const [image] = JSON.parse(run('image', 'list', '--json').stdout) as [{ id: string }];
      const rootfs = join(home, 'state/images', image.id, 'rootfs.ext4');
      expectClean(rootfs);
      expect(statSync(rootfs).uid).toBe(nobody);
      expect(debugfs(rootfs, 'stat bin/su')).toMatch(/Mode: +04755[^]*User: +7 +Group: +8/);
      expect(debugfs(rootfs, 'stat dev/zero')).toMatch(
        /Type: character special[^]*major\/minor number: 01:05/,
      );
      run('image', 'delete', 'made');
    } finally {
      programs = process.env['PATH'];
      run('engine', 'stop');
    }
  });

  test.each([
    ['config.toml', ['ps']],
    ['run', ['ps']],
    ['state', ['ps']],
    ['state/banger.db', ['ps']],
    ['state/engine.log', ['ps']],
    ['state/images', ['image', 'import', '/etc/hostname']],
    ['state/vms', ['vm', 'create', '--no-start']],
    ['cache', ['vm', 'create', '--no-start']],
  ])('has %s of another user: it is refused by name, with what to do, and stays as it is', (piece, args) => {
    const path = join(home, piece);
    const giveBack = takeAway(path);
    try {
      const before = statSync(path);
      const { code, stdout, stderr } = run(...args);
      expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' });
      const lines = stderr.trimEnd().split('\n');
      const at = lines.findIndex((line) => line.startsWith('banger: '));
      expect(lines[at], stderr).toContain(path);
      expect(lines[at], stderr).toMatch(/permission|EACCES|belongs to user 0|not a directory of yours/i);
      expect(lines[at + 1], stderr).toMatch(/^ {2}\S/);
      expect(stderr).not.toContain('bug in banger');
      const { uid, mode, size, mtimeMs } = statSync(path);
      expect({ uid, mode, size, mtimeMs }).toEqual({
        uid: 0,
        mode: before.mode,
        size: before.size,
        mtimeMs: before.mtimeMs,
      });
    } finally {
      giveBack();
      run('engine', 'stop');
    }
    expect(run('ps'), 'given back').toMatchObject({ code: 0, stderr: '' });
    run('engine', 'stop');
  });
});
