import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { checkDisks } from '../../../src/host/doctor/disks.ts';
import { exec as realExec, type Exec } from '../../../src/host/exec.ts';
import { fakeDevices } from '../../support/fake-devices.ts';
import { withLoopFilesystem } from '../../support/loop-filesystem.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-doctor-disks-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A kernel without device-mapper. */
const exec: Exec = async (argv, options) => {
  if (argv[0] === 'fallocate') return realExec(argv, options);
  if (argv[0] === 'dmsetup' && argv[1] === 'create') {
    throw new BangerError('command_failed', '/dev/mapper/control: open failed: No such device');
  }
  return {
    exitCode: argv[0] === 'dmsetup' ? 1 : 0,
    stdout: Buffer.from(''),
    stderr: 'Device does not exist.',
  };
};

test('every way is told with its cost or with why there is none, and nothing is left', async (context) => {
  await withLoopFilesystem(context, 'xfs', async (directory) => {
    const { check, methods } = await checkDisks({
      exec,
      vmsDirectory: join(directory, 'state'),
      wanted: 'auto',
    });
    expect(check).toMatchObject({ id: 'disks', status: 'pass' });
    expect(methods.map(({ method, works }) => [method, works])).toEqual([
      ['qcow2', true],
      ['reflink', true],
      ['copy', true],
      ['dm-snapshot', false],
    ]);
    expect(check.evidence).toContain(
      "qcow2 (nothing is copied), reflink (nothing is copied), copy (the image's data is copied)",
    );
    expect(check.evidence).toMatch(/no dm-snapshot \(this kernel has no device-mapper\)/);
    expect(readdirSync(directory)).toEqual([]);
  });
});

test.runIf(process.getuid!() === 0)(
  'what a snapshot by device-mapper takes is told where it works',
  async () => {
    const devices = fakeDevices();
    const working: Exec = (argv, options) =>
      (argv[0] === 'fallocate' ? realExec : devices.exec)(argv, options);
    const { check } = await checkDisks({ exec: working, vmsDirectory: root, wanted: 'dm-snapshot' });
    expect(check.status).toBe('pass');
    expect(check.evidence).toContain('by dm-snapshot, as the configuration says; there are: ');
    expect(check.evidence).toContain("dm-snapshot (nothing is copied, all of a disk's room is taken)");
    expect([...devices.mappings.keys(), ...devices.loops.keys(), ...readdirSync(root)]).toEqual([]);
  },
);

test('a way that the configuration insists on and that does not work is a problem', async (context) => {
  await withLoopFilesystem(context, 'ext4', async (directory) => {
    const { check } = await checkDisks({ exec, vmsDirectory: directory, wanted: 'reflink' });
    expect(check).toMatchObject({
      status: 'fail',
      evidence: 'disks cannot be made by reflink: this filesystem has no reflinks',
      fix: expect.stringContaining('method = "auto"') as string,
    });
  });
});

test('where nothing can be written the question is left open: the directory has a check of its own', async () => {
  const { check, methods } = await checkDisks({ exec, vmsDirectory: '/proc/self', wanted: 'auto' });
  expect([check.status, methods]).toEqual(['skip', []]);
});
