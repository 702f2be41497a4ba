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
import { makeShortTempDirectory, programArgv, type Ran } from '../support/banger.ts';

/** A user who is not root, for whom the kernel says no. */
const nobody = 65_534;
const canBecome = process.getuid!() === 0;
const reason = canBecome ? '' : ' (skipped: becoming another user takes root)';

describe.skipIf(!canBecome)(`a user in whose home something is another user's${reason}`, () => {
  const place = makeShortTempDirectory();
  const home = join(place, 'home');
  const program = join(place, 'banger');

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
    const env = { PATH: process.env['PATH'], HOME: home, BANGER_HOME: home, TMPDIR: place };
    const ran = spawnSync('setpriv', [...identity, '--', program, ...args], { cwd: '/', env });
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

  test.each([
    ['config.toml', ['ps']],
    ['run', ['ps']],
    ['state', ['ps']],
    ['state/banger.db', ['ps']],
    ['state/engine.log', ['ps']],
    ['state/images', ['image', 'import', '/etc/hostname']],
    ['state/vms', ['vm', 'create', '--no-start']],
    ['cache', ['vm', 'create', '--no-start']],
  ])('%s: it is refused by name, with what to do, and stays as it is', (piece, args) => {
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
