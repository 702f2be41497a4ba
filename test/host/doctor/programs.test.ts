import { expect, test } from 'vitest';
import type { CheckResult } from '../../../src/host/doctor/check.ts';
import { installHint } from '../../../src/host/doctor/install-hint.ts';
import type { OwnRights } from '../../../src/host/drivers/qemu-confinement.ts';
import { checkPrograms } from '../../../src/host/doctor/programs.ts';
import { fakeExec, type Answer } from './fake-qemu.ts';

const debian = 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n';
const healthy: Readonly<Record<string, Answer>> = {
  'qemu --version': 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)\nCopyright\n',
  'qemu -M help':
    'Supported machines are:\nmicrovm   microvm (i386)\nq35    Standard PC (alias of pc-q35-7.2)\n',
  'qemu -nodefaults': '',
  'qemu-img --version': 'qemu-img version 7.2.22 (Debian 1:7.2+dfsg)\n',
  'git --version': 'git version 2.39.5\n',
};

const nobody: OwnRights = {
  uid: 1000,
  status: 'CapEff:\t0000000000000000\n',
  uidMap: '0 0 4294967295',
  gidMap: '0 0 4294967295',
};

async function check(
  answers: Readonly<Record<string, Answer>>,
  rights = nobody,
): Promise<Record<string, CheckResult>> {
  const exec = fakeExec({ ...healthy, ...answers });
  const results = await checkPrograms({ exec, qemuProgram: 'qemu', rights, osRelease: debian });
  return Object.fromEntries(results.map((result) => [result.id, result]));
}

test('a host that has everything passes', async () => {
  const results = await check({});
  expect(Object.values(results).map(({ id, status, evidence }) => [id, status, evidence])).toEqual([
    ['qemu', 'pass', '7.2.22 (qemu)'],
    ['qemu-machines', 'pass', 'microvm, q35'],
    ['qemu-devices', 'pass', 'q35 with qboot.rom, virtio and user network'],
    ['qemu-confinement', 'pass', 'system calls are filtered, no new privileges, as user 1000'],
    ['qemu-img', 'pass', '7.2.22'],
    ['git', 'pass', '2.39.5'],
  ]);
});

test('without QEMU its machines are not looked for', async () => {
  const results = await check({ 'qemu --version': undefined });
  expect(results['qemu']).toMatchObject({
    status: 'fail',
    evidence: '"qemu" is not installed or not in PATH',
    fix: 'Install it with: sudo apt-get install qemu-system-x86',
  });
  expect(results['qemu-machines']?.status).toBe('skip');
  expect(results['qemu-devices']?.status).toBe('skip');
  expect(results['qemu-confinement']?.status).toBe('skip');
  expect(results['git']?.status).toBe('pass');
});

test.each([
  ['QEMU emulator version 5.2.0 (Debian)', 'fail'],
  ['QEMU emulator version 6.0.0', 'pass'],
  ['QEMU emulator version 10.1.0-rc1', 'pass'],
  ['GNU bash, 5.2', 'fail'],
])('"%s" is a %s', async (line, status) => {
  expect((await check({ 'qemu --version': `${line}\n` }))['qemu']?.status).toBe(status);
});

test('machines that are missing are named', async () => {
  expect((await check({ 'qemu -M help': 'microvm   x\n' }))['qemu-machines']).toMatchObject({
    status: 'fail',
    evidence: 'this QEMU has no machine "q35"',
  });
  expect((await check({ 'qemu -M help': 'q35   x\n' }))['qemu-machines']?.status).toBe('warn');
});

test('what QEMU says about its firmware is passed on', async () => {
  const stderr = "warning\nqemu: could not load PC BIOS 'qboot.rom'\n";
  expect((await check({ 'qemu -nodefaults': { exitCode: 1, stderr } }))['qemu-devices']).toMatchObject({
    status: 'fail',
    evidence: "QEMU says: qemu: could not load PC BIOS 'qboot.rom'",
  });
});

test('what a QEMU is kept from is told, and what it is not', async () => {
  const root = { ...nobody, uid: 0, status: 'CapEff:\t000001ffffffffff\n' };
  expect((await check({}, root))['qemu-confinement']).toMatchObject({
    status: 'pass',
    evidence:
      'system calls are filtered, no new privileges, a user and a root directory of its own for each VM',
  });
  // What is tried out is what VMs are started with: one that is not let into a directory of its own is not refused.
  const refused = { exitCode: 1, stderr: 'qemu: chroot failed\n' };
  const sandbox = '-sandbox on,obsolete=deny,spawn=deny,resourcecontrol=deny';
  const words = `qemu -nodefaults -no-user-config ${sandbox} -runas 1879048205:1879048205 -chroot`;
  expect((await check({ [words]: refused }, root))['qemu-confinement']).toMatchObject({
    status: 'pass',
    evidence: 'system calls are filtered, no new privileges, a user of its own for each VM',
  });
  expect((await check({}, { ...root, uidMap: '0 100000 65536' }))['qemu-confinement']).toMatchObject({
    status: 'warn',
    evidence: expect.stringContaining('VMMs run as root') as unknown,
  });
  const stderr = 'qemu: -sandbox support is not enabled in this QEMU binary\n';
  expect(
    (await check({ 'qemu -nodefaults -no-user-config -sandbox': { exitCode: 1, stderr } }))[
      'qemu-confinement'
    ],
  ).toMatchObject({ status: 'warn', evidence: 'this QEMU was built without seccomp' });
});

test('a VM needs qemu-img; only workspaces need git', async () => {
  const results = await check({ 'qemu-img --version': undefined, 'git --version': undefined });
  expect(results['qemu-img']).toMatchObject({
    status: 'fail',
    fix: 'Install it with: sudo apt-get install qemu-utils',
  });
  expect(results['git']?.status).toBe('warn');
});

test.each([
  ['ID=ubuntu\nID_LIKE=debian\n', 'sudo apt-get install qemu-utils'],
  ['ID="rocky"\nID_LIKE="rhel centos fedora"\n', 'sudo dnf install qemu-img'],
  ['ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', 'sudo zypper install qemu-img'],
  ['ID=manjaro\nID_LIKE=arch\n', 'sudo pacman -S qemu-img'],
  ['ID=alpine\n', 'sudo apk add qemu-img'],
  ['', 'package of your distribution that has qemu-img'],
])('programs are installed the way of the distribution: %j', (osRelease, words) => {
  expect(installHint(osRelease, 'qemu-img')).toContain(words);
});
