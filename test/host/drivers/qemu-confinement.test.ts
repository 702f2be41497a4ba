import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  confinementArguments,
  mayChangeRoot,
  readOwnRights,
  readQemuBuild,
  vmUser,
  type OwnRights,
} from '../../../src/host/drivers/qemu-confinement.ts';
import { describeConfinement } from '../../../src/host/drivers/confinement.ts';
import { isOurs } from '../../../src/host/drivers/vmm-process.ts';
import { qemuDriver } from '../../../src/host/drivers/qemu.ts';
import { killProcess } from '../../../src/host/process.ts';
import { fakeExec } from '../doctor/fake-qemu.ts';

const id = 'abc123'.padEnd(32, '0');
const user = 0x70ab_c123;
const everybody = '         0          0 4294967295\n';
const root: OwnRights = {
  uid: 0,
  status: 'CapEff:\t000001ffffffffff\n',
  uidMap: everybody,
  gidMap: everybody,
};

const able = { hasSandbox: true, mayChangeRoot: true };

test('QEMU of a user gives up every system call that it can do without', () => {
  expect(confinementArguments({ ...able, major: 7, minor: 2 })).toEqual([
    '-sandbox',
    'on,obsolete=deny,spawn=deny,resourcecontrol=deny,elevateprivileges=deny',
  ]);
});

test("root's QEMU becomes somebody else, in the words of its version", () => {
  const argv = (major: number, minor: number) =>
    confinementArguments({ ...able, major, minor }, { user: 1234 });
  expect(argv(7, 2)).toEqual([
    '-sandbox',
    'on,obsolete=deny,spawn=deny,resourcecontrol=deny',
    '-runas',
    '1234:1234',
  ]);
  expect(argv(9, 0).slice(2)).toEqual(['-runas', '1234:1234']);
  expect(argv(9, 1).slice(2)).toEqual(['-run-with', 'user=1234:1234']);
  expect(argv(10, 0).slice(2)).toEqual(['-run-with', 'user=1234:1234']);
});

test.each([
  [7, 2, ['-runas', '7:7', '-chroot', '/a,b']],
  [8, 0, ['-runas', '7:7', '-chroot', '/a,b']],
  [8, 1, ['-runas', '7:7', '-run-with', 'chroot=/a,,b']],
  [9, 0, ['-runas', '7:7', '-run-with', 'chroot=/a,,b']],
  [9, 1, ['-run-with', 'user=7:7,chroot=/a,,b']],
])("root's QEMU %i.%i is given a root directory of its own in words that it has", (major, minor, words) => {
  expect(confinementArguments({ ...able, major, minor }, { user: 7, root: '/a,b' }).slice(2)).toEqual(words);
});

test('a root that may not change its root directory does not have QEMU try', () => {
  const build = { ...able, major: 7, minor: 2 };
  expect(mayChangeRoot(build, root)).toBe(true);
  expect(mayChangeRoot(build, { ...root, status: 'CapEff:\t00000000000000c0\n' })).toBe(false);
  expect(mayChangeRoot({ ...build, mayChangeRoot: false }, root)).toBe(false);
});

test.each([
  ['QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n', 7, 2],
  ['QEMU emulator version 10.1.0-rc1\n', 10, 1],
  ['what?\n', 6, 0],
])('"%s" is version %i.%i', async (printed, major, minor) => {
  expect(await readQemuBuild(fakeExec({ 'qemu --version': printed }), 'qemu')).toMatchObject({
    major,
    minor,
  });
});

test('the VMM of each VM has a user of its own, always the same', () => {
  expect(vmUser(id, root)).toBe(user);
  expect(vmUser('def456'.padEnd(32, '0'), root)).toBe(0x70de_f456);
  // What doctor tries out is named by a word.
  expect(vmUser('probe', root)).toBe(0x7000_0000);
});

test('it runs as we do where we are not root, or a root who may not become somebody else', () => {
  expect(vmUser(id, { ...root, uid: 1000 })).toBeUndefined();
  expect(vmUser(id, { ...root, status: 'CapEff:\t00000000a80425bf\n' })).toBeUndefined();
  expect(vmUser(id, { ...root, uidMap: '         0     100000      65536\n' })).toBeUndefined();
  expect(vmUser(id, { ...root, gidMap: '' })).toBeUndefined();
});

test('a process is ours by its user, whoever seems to own its directory in /proc', () => {
  expect(isOurs(process.pid)).toBe(true);
  expect(isOurs(1)).toBe(process.getuid!() === 0);
  expect(isOurs(2 ** 22 + 1)).toBe(false);
  const someone = process.getuid!() + 1;
  expect(isOurs(process.pid, someone)).toBe(true);
});

test('a QEMU that was built without seccomp runs VMs all the same, and is not asked for it twice', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const program = join(directory, 'qemu');
  const script = `#!${process.execPath}
const words = process.argv.slice(2);
if (words[0] === '--version') return console.log('QEMU emulator version 8.2.0');
require('node:fs').appendFileSync('${directory}/starts', words.includes('-sandbox') ? 'confined ' : 'free ');
if (words.includes('-sandbox')) {
  console.error('qemu: -sandbox support is not enabled in this QEMU binary');
  process.exit(1);
}
require('node:net')
  .createServer((client) => {
    client.on('error', () => undefined);
    client.on('data', (line) => client.write(JSON.stringify({ return: {}, id: JSON.parse(line).id }) + '\\n'));
  })
  .listen(words[words.indexOf('-qmp') + 1].replace('unix:', '').replace(/,.*/, ''));
`;
  writeFileSync(program, script);
  chmodSync(program, 0o700);
  const path = (name: string) => join(directory, name);
  const machine = {
    ...{ id, cpus: 1, memoryMib: 64, kernel: '/k', initrd: '/i', acceleration: 'tcg' as const, network: {} },
    ...{ consoleLog: path('console'), vmmLog: path('vmm'), controlSocket: path('control') },
  };
  const driver = qemuDriver(program);
  for (let times = 0; times < 2; times++) {
    await killProcess(await driver.start(machine, new AbortController().signal));
  }
  expect(readFileSync(path('starts'), 'utf8')).toBe('confined free free ');
});

/** As much of a bzImage as QEMU wants to see, which halts at once (Documentation/arch/x86/boot.rst). */
function haltingKernel(): Buffer {
  const image = Buffer.alloc(4096);
  image[0x1f1] = 1;
  image.write('HdrS', 0x202);
  image.writeUInt16LE(0x020c, 0x206);
  image.writeUInt32LE(0x7fff_ffff, 0x22c);
  // cli, hlt, where the setup code begins.
  image.set([0xfa, 0xf4], 0x200);
  return image;
}

/** The host's own, if there is one. */
const qemu = 'qemu-system-x86_64';
const hasQemu = spawnSync(qemu, ['--version']).status === 0;

test('a real QEMU takes every word of it, and has what they say', async ({ skip }) => {
  if (!hasQemu) skip(`"${qemu}" is not installed`);
  const directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const path = (name: string) => join(directory, name);
  writeFileSync(path('kernel'), haltingKernel());
  writeFileSync(path('initrd'), 'x');
  writeFileSync(path('disk'), Buffer.alloc(4096));
  const machine = {
    ...{ id, cpus: 1, memoryMib: 64, kernel: path('kernel'), initrd: path('initrd'), network: {} },
    disk: { path: path('disk'), format: 'raw' as const, bytesPerSecond: 1024 ** 2 },
    ...{ consoleLog: path('console'), vmmLog: path('vmm'), controlSocket: path('control') },
    acceleration: 'tcg' as const,
  };
  // A program may be a script that has options of its own; it is found all the same.
  writeFileSync(path('script'), `#!/bin/sh\nexec ${qemu} -L '${directory}' -L /usr/share/qemu "$@"\n`, {
    mode: 0o755,
  });
  const driver = qemuDriver(path('script'));
  const vmm = await driver.start(machine, new AbortController().signal);
  try {
    const status = readFileSync(`/proc/${vmm.pid}/status`, 'utf8');
    const expected = vmUser(id, readOwnRights()) ?? process.getuid!();
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(new RegExp(`^Uid:\t${expected}\t${expected}\t${expected}\t${expected}$`, 'm'));
    if (expected !== 0) expect(status).toMatch(/^CapEff:\t0+$/m);
    if (expected !== process.getuid!()) {
      // All that it sees, and it may change nothing of it.
      const seen = `/proc/${vmm.pid}/root`;
      expect(readlinkSync(seen)).toBe(path('jail'));
      expect(readdirSync(`${seen}/`, { recursive: true }).toSorted()).toEqual(['etc', 'etc/resolv.conf']);
      expect(readFileSync(`${seen}/etc/resolv.conf`, 'utf8')).toBe('');
      for (const name of ['', 'etc', 'etc/resolv.conf']) {
        const { uid, mode } = lstatSync(`${seen}/${name}`);
        expect([name, uid, mode & 0o777]).toEqual([name, 0, name.endsWith('f') ? 0o644 : 0o755]);
      }
      expect(describeConfinement(vmm.pid, id)?.has).toContain('a jail');
    }
    expect(driver.find(id)?.process).toEqual(vmm);
  } finally {
    await killProcess(vmm);
  }
});
