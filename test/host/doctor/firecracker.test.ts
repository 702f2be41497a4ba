import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkFirecracker, type FirecrackerCheckInput } from '../../../src/host/doctor/firecracker.ts';
import { findControlGroups } from '../../../src/host/drivers/firecracker/control-groups.ts';
import { fakeExec } from './fake-qemu.ts';

const user = { uid: 1000, status: '', uidMap: '', gidMap: '' };
const insisted = { program: 'fc', isInsistedOn: true } as const;
const auto = { program: 'fc', isInsistedOn: false } as const;
const check = async (printed: string | undefined) => {
  const exec = fakeExec({ 'fc --version': printed });
  return (await checkFirecracker({ ...auto, exec, jailer: 'auto', rights: user })).check;
};

/** What everybody but root has of it. */
const asUser = 'not jailed, which takes root: in a user and a network namespace, without rights';

test('as root, one that is not jailed is a warning that says why, unless the configuration wants it so', async () => {
  const all = '0 0 4294967295';
  const root = { uid: 0, status: 'CapEff:\t000001ffffffffff\n', uidMap: all, gidMap: all };
  const exec = fakeExec({ 'fc --version': 'Firecracker v1.14.1\n' });
  const found = (given: Pick<FirecrackerCheckInput, 'program' | 'isInsistedOn' | 'jailer' | 'rights'>) =>
    checkFirecracker({ exec, ...given });
  expect(await found({ ...auto, jailer: 'auto', rights: root })).toMatchObject({
    isFit: false,
    check: {
      status: 'warn',
      evidence: '1.14.1 (fc), not jailed: "fc" is not installed or not in PATH',
      fix: expect.stringContaining('QEMU runs VMs') as string,
    },
  });
  // What works as it is configured is used, and doctor goes by it.
  expect(await found({ ...insisted, jailer: 'auto', rights: root })).toMatchObject({
    isFit: true,
    check: { status: 'warn', fix: expect.stringContaining('as root') as string },
  });
  expect(await found({ ...insisted, jailer: 'never', rights: root })).toMatchObject({
    isFit: true,
    check: {
      status: 'pass',
      evidence: '1.14.1 (fc), not jailed: the configuration forbids its jailer',
    },
  });
  expect(await found({ ...insisted, jailer: 'always', rights: user })).toMatchObject({
    isFit: false,
    check: { status: 'warn', evidence: '1.14.1 (fc), not jailed: its jailer needs root' },
  });
});

test('a host without Firecracker lacks nothing', async () => {
  expect(await check(undefined)).toMatchObject({
    status: 'skip',
    evidence: '"fc" is not installed or not in PATH; QEMU runs VMs',
  });
});

const byWords =
  'tells guests of their disks by words on the command line only, which kernel "embedded" does not read (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES)';

test.each([
  ['1.8.0', 'pass', `1.8.0 (fc), ${asUser}`],
  ['1.12.0', 'pass', `1.12.0 (fc), ${asUser}`],
  ['1.14.1', 'pass', `1.14.1 (fc), ${asUser}`],
  ['1.15.0', 'pass', `1.15.0 (fc), ${asUser}`],
  ['1.17.0', 'pass', `1.17.0 (fc), ${asUser}`],
  ['1.18.0', 'pass', `1.18.0 (fc), newer than any that banger knows, ${asUser}`],
  ['1.7.0', 'warn', `Firecracker 1.7.0 ${byWords}`],
  ['1.6.4', 'warn', 'Firecracker 1.6.4 is older than 1.7, the oldest that banger knows'],
  ['0.25.2', 'warn', 'Firecracker 0.25.2 is older than 1.7, the oldest that banger knows'],
])('%s is a %s', async (version, status, evidence) => {
  const printed = `Firecracker v${version}\n\n2026-02-23T21:05:34 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0\n`;
  expect(await check(printed)).toMatchObject({ status, evidence });
});

test.each(['1.16.0', '1.16.1'])('what is wrong with %s is told, and keeps no VM from it', async (version) => {
  expect(await check(`Firecracker v${version}\n`)).toMatchObject({
    status: 'pass',
    evidence: `${version} (fc), without vsock, of which banger makes no use (in Firecracker ${version}, connections into a guest over vsock hang once it was paused), ${asUser}`,
  });
});

test('a jailed one is told with its limits, or why it has none', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const [program, jailer] = ['firecracker', 'jailer'].map((name) => join(directory, name)) as [
    string,
    string,
  ];
  for (const path of [program, jailer]) writeFileSync(path, '', { mode: 0o755 });
  const all = '0 0 4294967295';
  const root = { uid: 0, status: 'CapEff:\t000001ffffffffff\n', uidMap: all, gidMap: all };
  const exec = fakeExec({ [`${program} --version`]: 'Firecracker v1.14.1\n' });
  const { hierarchies, reason } = findControlGroups();
  const found = await checkFirecracker({ ...auto, exec, program, jailer: 'auto', rights: root });
  expect(found.check).toMatchObject({
    status: 'pass',
    evidence: `1.14.1 (${program}), jailed by ${jailer}, ${hierarchies ? `with limits by control groups (v${hierarchies.version})` : `without limits: ${reason}`}`,
  });
});

test('1.16.2 has it mended, as far as is known', async () => {
  expect((await check('Firecracker v1.16.2\n')).status).toBe('pass');
});

test('another program is told from Firecracker', async () => {
  expect(await check('GNU bash, version 5.2.15\n')).toMatchObject({
    status: 'warn',
    evidence: '"fc" is not Firecracker: "GNU bash, version 5.2.15"',
  });
});
