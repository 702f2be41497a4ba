import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import {
  deviceNumber,
  isJailed,
  makeJail,
  publishSocket,
  removeJail,
} from '../../../src/host/drivers/firecracker/chroot.ts';
import type { JailPaths } from '../../../src/host/drivers/firecracker/jail.ts';
import { exec } from '../../../src/host/exec.ts';

const isRoot = process.getuid!() === 0;
if (!isRoot) process.stderr.write('Note: jails are not made here: that needs root\n');

const id = '0123456789abcdef'.repeat(2);
const user = 0x7000_0001;
let root: string;
let vm: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-chroot-'));
  vm = join(root, 'vm');
  mkdirSync(vm, { mode: 0o700 });
  for (const name of ['kernel', 'vm/initrd', 'vm/disk']) {
    writeFileSync(join(root, name), name);
    chmodSync(join(root, name), 0o600);
  }
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const make = (): Promise<JailPaths> =>
  makeJail(
    exec,
    {
      id,
      kernel: join(root, 'kernel'),
      initrd: join(vm, 'initrd'),
      disk: { path: join(vm, 'disk'), format: 'raw' },
      vmmLog: join(vm, 'vmm.log'),
    },
    { jailer: '/usr/bin/jailer', execFile: '/usr/bin/firecracker', user },
  );

test.runIf(isRoot)(
  'where files cannot be given away that is told, as the host’s, and nothing is left',
  async () => {
    const script = join(root, 'program.ts');
    const content = {
      id,
      kernel: join(root, 'kernel'),
      initrd: join(vm, 'initrd'),
      vmmLog: join(vm, 'vmm.log'),
    };
    const jailing = { jailer: '/usr/bin/jailer', execFile: '/usr/bin/firecracker', user };
    writeFileSync(
      script,
      `import { exec } from ${JSON.stringify(resolve('src/host/exec.ts'))};
     import { makeJail } from ${JSON.stringify(resolve('src/host/drivers/firecracker/chroot.ts'))};
     makeJail(exec, ${JSON.stringify(content)}, ${JSON.stringify(jailing)}).catch(({ code, message, hint }) =>
       console.log(JSON.stringify({ code, message, hint })));`,
    );
    // Root of a container, or on a filesystem of another system.
    const { stdout } = await exec(['setpriv', '--bounding-set=-chown', '--', process.execPath, script]);
    expect(JSON.parse(stdout.toString())).toEqual({
      code: 'host_unsupported',
      message: `Firecracker's jail cannot be made at "${join(vm, 'jail')}": what is in it cannot be given to its user there (chown: EPERM)`,
      hint: expect.stringContaining('jailer = "never"') as string,
    });
    expect(existsSync(join(vm, 'jail'))).toBe(false);
  },
);
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

describe.runIf(isRoot)('a jail that is made', () => {
  test('has the disk and the log of its VM, the same files, as its user’s own', async () => {
    const paths = await make();
    for (const [inside, outside] of [
      ['disk', 'disk'],
      ['vmm.log', 'vmm.log'],
    ] as const) {
      const found = statSync(join(paths.root, inside));
      expect(found).toMatchObject({ ino: statSync(join(vm, outside)).ino, uid: user, gid: user });
      expect(found.mode & 0o777).toBe(0o600);
    }
  });

  test('has the secrets of its guest for its user alone', async () => {
    const { root: inside } = await make();
    expect(readFileSync(join(inside, 'initrd'), 'utf8')).toBe('vm/initrd');
    expect(statSync(join(inside, 'initrd')).uid).toBe(user);
    expect(modeOf(join(inside, 'initrd'))).toBe('400');
    expect(statSync(join(vm, 'initrd')).uid).toBe(0);
  });

  test('copies a kernel that only root may read, and links one that all may, which stays root’s', async () => {
    const kernel = join(root, 'kernel');
    const first = await make();
    expect(statSync(join(first.root, 'kernel')).ino).not.toBe(statSync(kernel).ino);
    expect(modeOf(join(first.root, 'kernel'))).toBe('444');
    expect(modeOf(kernel)).toBe('600');
    await removeJail(first.directory);
    rmSync(join(vm, 'vmm.log'));
    chmodSync(kernel, 0o644);
    const second = await make();
    expect(statSync(join(second.root, 'kernel')).ino).toBe(statSync(kernel).ino);
    expect(statSync(kernel)).toMatchObject({ uid: 0, gid: 0 });
  });

  test('is closed above its root', async () => {
    const paths = await make();
    for (const path of [paths.directory, join(paths.root, '..'), join(paths.root, '../..')]) {
      expect(modeOf(path)).toBe('700');
      expect(statSync(path).uid).toBe(0);
    }
  });

  test('is not made with a disk that others have, and nothing is left or changed', async () => {
    linkSync(join(vm, 'disk'), join(root, 'image'));
    await expect(make()).rejects.toMatchObject({ code: 'invalid_state' });
    expect(statSync(join(root, 'image')).uid).toBe(0);
    expect(existsSync(join(vm, 'jail'))).toBe(false);
  });

  test('is not made with a disk that is a link', async () => {
    writeFileSync(join(root, 'shadow'), '');
    rmSync(join(vm, 'disk'));
    symlinkSync(join(root, 'shadow'), join(vm, 'disk'));
    await expect(make()).rejects.toThrow();
    expect(statSync(join(root, 'shadow')).uid).toBe(0);
  });

  test('is not made below a directory that others may write to', async () => {
    chmodSync(root, 0o777);
    await expect(make()).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringContaining(`"${root}" can be written to by other users`) as string,
    });
    chmodSync(root, 0o755);
    chownSync(root, 1234, 0);
    await expect(make()).rejects.toThrow('belongs to user 1234');
  });

  test('takes the place of one that was left half made', async () => {
    mkdirSync(join(vm, 'jail/firecracker/other/root'), { recursive: true });
    writeFileSync(join(vm, 'jail/control'), '');
    const paths = await make();
    expect(readdirSync(paths.directory)).toEqual(['firecracker']);
    expect(readdirSync(join(paths.directory, 'firecracker'))).toEqual([`banger-${id}`]);
  });
});

describe.runIf(isRoot)('a jail that is removed', () => {
  test('takes nothing with it that its user has linked to', async () => {
    const paths = await make();
    const precious = join(root, 'precious');
    mkdirSync(precious);
    writeFileSync(join(precious, 'file'), 'mine');
    const inside = (name: string): string => join(paths.root, name);
    symlinkSync(precious, inside('directory'));
    symlinkSync(join(precious, 'file'), inside('file'));
    symlinkSync('/', inside('slash'));
    symlinkSync('loop', inside('loop'));
    linkSync(join(precious, 'file'), inside('hard'));
    rmSync(inside('kernel'));
    symlinkSync(precious, inside('kernel'));
    await removeJail(paths.directory);
    expect(existsSync(paths.directory)).toBe(false);
    expect(readFileSync(join(precious, 'file'), 'utf8')).toBe('mine');
    expect(readFileSync(join(vm, 'disk'), 'utf8')).toBe('vm/disk');
  });

  test('may hold devices, sockets, pipes, others’ files, closed directories and odd names', async () => {
    const { root: inside, directory } = await make();
    mkdirSync(join(inside, 'dev/net'), { recursive: true });
    execFileSync('mknod', [join(inside, 'dev/kvm'), 'c', '10', '232']);
    execFileSync('mknod', [join(inside, 'dev/net/tun'), 'c', '10', '200']);
    execFileSync('mkfifo', [join(inside, 'pipe')]);
    mkdirSync(join(inside, 'closed'), { mode: 0o000 });
    writeFileSync(join(inside, 'closed/x'), '', { mode: 0o000 });
    chownSync(join(inside, 'closed'), user, user);
    mkdirSync(join(inside, 'new\nline'));
    writeFileSync(join(inside, 'new\nline/\u00ff -rf'), '');
    await removeJail(directory);
    expect(readdirSync(vm).sort()).toEqual(['disk', 'initrd', 'vmm.log']);
  });

  test('may be deeper than any path', async () => {
    const { root: inside, directory } = await make();
    // One level at a time: a whole path would be too long for the kernel.
    const name = 'd'.repeat(100);
    const script = `i=0; while [ $i -lt 60 ]; do mkdir ${name} && cd -P ${name} && i=$((i+1)) || exit 1; done`;
    execFileSync('sh', ['-c', script], { cwd: inside });
    await removeJail(directory);
    expect(existsSync(directory)).toBe(false);
  });

  test('is left alone when something is mounted in it', async () => {
    const { root: inside, directory } = await make();
    const precious = join(root, 'precious');
    mkdirSync(precious);
    writeFileSync(join(precious, 'file'), 'mine');
    mkdirSync(join(inside, 'a b'));
    execFileSync('mount', ['--bind', precious, join(inside, 'a b')]);
    try {
      await expect(removeJail(directory)).rejects.toMatchObject({
        code: 'busy',
        hint: expect.stringContaining('umount') as string,
      });
      expect(readFileSync(join(precious, 'file'), 'utf8')).toBe('mine');
    } finally {
      execFileSync('umount', [join(inside, 'a b')]);
    }
    await removeJail(directory);
    expect(readdirSync(precious)).toEqual(['file']);
  });

  test('counts as removed when it is gone, or something else is in its place', async () => {
    await removeJail(join(vm, 'jail'));
    const precious = join(root, 'precious');
    mkdirSync(join(precious, 'kept'), { recursive: true });
    symlinkSync(precious, join(vm, 'jail'));
    await removeJail(join(vm, 'jail'));
    expect(existsSync(join(precious, 'kept'))).toBe(true);
  });
});

describe.runIf(isRoot)('the socket of a jail', () => {
  const publish = (paths: JailPaths, controlSocket: string) => publishSocket(paths, { controlSocket, user });

  async function listen(path: string): Promise<void> {
    const server = createServer();
    // The path itself may be too long for an address.
    await new Promise<void>((resolve) => server.listen(join(root, 's'), resolve));
    linkSync(join(root, 's'), path);
    onTestFinished(() => void server.close());
  }

  test('is reached over a short link to a name that its user cannot change', async () => {
    const paths = await make();
    const controlSocket = join(root, 'control');
    expect(await publish(paths, controlSocket)).toBe(false);
    expect(await isJailed(controlSocket)).toBe(false);
    await listen(paths.socket);
    chownSync(paths.socket, user, user);
    expect(await publish(paths, controlSocket)).toBe(true);
    expect(readlinkSync(controlSocket)).toBe(paths.pinnedSocket);
    expect(await isJailed(controlSocket)).toBe(true);
    rmSync(paths.socket);
    symlinkSync('/run/other.sock', paths.socket);
    expect(statSync(controlSocket).isSocket()).toBe(true);
  });

  test('is none that leads elsewhere, or is somebody else’s', async () => {
    const paths = await make();
    const controlSocket = join(root, 'control');
    await listen(join(root, 'others'));
    symlinkSync(join(root, 'others'), paths.socket);
    await expect(publish(paths, controlSocket)).rejects.toThrow('is not the socket');
    rmSync(paths.socket);
    linkSync(join(root, 'others'), paths.socket);
    await expect(publish(paths, controlSocket)).rejects.toThrow('is not the socket');
    expect(lstatSync(controlSocket, { throwIfNoEntry: false })).toBeUndefined();
    expect(existsSync(paths.pinnedSocket)).toBe(false);
  });
});

test('devices have the numbers that the kernel shows', () => {
  expect(deviceNumber(statSync('/dev/null'))).toEqual({ major: 1, minor: 3 });
  expect(deviceNumber({ rdev: 0xfd_00 })).toEqual({ major: 253, minor: 0 });
  // Minors above 255 are split: 0x12300 of 253.
  expect(deviceNumber({ rdev: 0x1230_fd00 })).toEqual({ major: 0xfd, minor: 0x1_2300 });
});
