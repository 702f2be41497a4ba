import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  findControlGroups,
  groupLimits,
  makeControlGroups,
  removeControlGroups,
  type Hierarchies,
} from '../../../src/host/drivers/firecracker/control-groups.ts';
import { jailerArguments } from '../../../src/host/drivers/firecracker/jail.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger groups-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** As /proc/mounts writes it. */
const mounted = (name: string, type: 'cgroup' | 'cgroup2', options = 'rw'): string =>
  `${type} ${join(root, name).replaceAll(' ', '\\040')} ${type} ${options} 0 0\n`;

function unified(files: Readonly<Record<string, string>> = {}): string {
  const all = { 'cgroup.controllers': 'cpuset cpu io memory pids', 'cgroup.subtree_control': '', ...files };
  mkdirSync(join(root, 'unified'));
  for (const [name, text] of Object.entries(all)) writeFileSync(join(root, 'unified', name), `${text}\n`);
  return mounted('unified', 'cgroup2');
}

function separate(...names: string[]): string {
  for (const name of names) mkdirSync(join(root, name));
  return names.map((name) => mounted(name, 'cgroup', `rw,nosuid,${name}`)).join('');
}

describe('control groups are found', () => {
  test('at the one top of version 2, when it has the controllers', () => {
    const top = join(root, 'unified');
    expect(findControlGroups(separate('memory', 'pids', 'cpu,cpuacct') + unified()).hierarchies).toEqual({
      version: 2,
      tops: { memory: top, cpu: top, pids: top },
    });
  });

  test('else at those of version 1, several controllers at one included', () => {
    const mounts = separate('memory', 'pids', 'cpu,cpuacct') + unified({ 'cgroup.controllers': '' });
    expect(findControlGroups(mounts).hierarchies).toEqual({
      version: 1,
      tops: {
        memory: join(root, 'memory'),
        cpu: join(root, 'cpu,cpuacct'),
        pids: join(root, 'pids'),
      },
    });
  });

  test('nowhere without the controllers, and in a container that hands on none', () => {
    expect(findControlGroups('').reason).toBe('this host has no control groups for memory, cpu and pids');
    expect(findControlGroups(separate('memory')).reason).toMatch(/^this host has no control groups/);
    const mounts = unified({ 'cgroup.type': 'domain', 'cgroup.procs': '1' });
    expect(findControlGroups(mounts).reason).toMatch(/hand on no limits: processes are in the topmost one$/);
    writeFileSync(join(root, 'unified/cgroup.subtree_control'), 'cpu memory pids\n');
    expect(findControlGroups(mounts).hierarchies).toMatchObject({ version: 2 });
    writeFileSync(join(root, 'unified/cgroup.controllers'), 'cpu pids\n');
    expect(findControlGroups(mounts).reason).toMatch(/ have no memory$/);
  });
});

test.each([1, 2] as const)('limits of version %i are what a jailer takes', (version) => {
  const tops = { memory: '/m', cpu: '/c', pids: '/p' };
  const hierarchies: Hierarchies = { version, tops };
  const cgroup = groupLimits(hierarchies, { cpus: 2, memoryMib: 1024 });
  const memory = (1024 + 128 + 64) * 1024 ** 2;
  expect(cgroup.values).toEqual(
    version === 2
      ? { 'memory.max': String(memory), 'cpu.max': '300000 100000', 'pids.max': '66' }
      : { 'cpu.cfs_quota_us': '300000', 'pids.max': '66' },
  );
  const argv = jailerArguments(
    { execFile: '/firecracker', user: 1 },
    { id: 'a', directory: '/jail', cgroup, maxFileBytes: 5 },
    [],
  );
  expect(argv.slice(argv.indexOf('--cgroup-version'))).toEqual([
    ...['--cgroup-version', String(version), '--parent-cgroup', 'banger'],
    ...Object.entries(cgroup.values).flatMap(([file, value]) => ['--cgroup', `${file}=${value}`]),
    ...['--resource-limit', 'fsize=5', '--resource-limit', 'no-file=2048', '--'],
  ]);
});

describe('groups of a VM are made before its jailer looks for them', () => {
  test('where it will use them, and again over what was left', async () => {
    const mounts = separate('memory', 'pids', 'cpu,cpuacct') + unified({ 'cgroup.controllers': '' });
    for (let time = 0; time < 2; time++) await makeControlGroups('a', mounts);
    for (const top of ['pids', 'cpu,cpuacct'])
      expect(readdirSync(join(root, top, 'banger'))).toEqual(['banger-a']);
    expect(readdirSync(join(root, 'memory'))).toEqual([]);
    expect(existsSync(join(root, 'unified/banger'))).toBe(false);
    await removeControlGroups('a', mounts);
    expect(readdirSync(join(root, 'pids'))).toEqual([]);
  });

  test('whenever the one above them is removed, and keep it there while those of others go', async () => {
    const mounts = unified();
    const above = join(root, 'unified/banger');
    const loop = 'while (1) { rmdir $ARGV[0]; select undef, undef, undef, 0.0001 }';
    const remover = spawn('perl', ['-e', loop, above], { stdio: 'ignore' });
    onTestFinished(() => void remover.kill('SIGKILL'));
    for (let round = 0; round < 100; round++) {
      await makeControlGroups('a', mounts);
      await removeControlGroups('b', mounts);
      expect(readdirSync(above)).toEqual(['banger-a']);
      await removeControlGroups('a', mounts);
      expect(existsSync(above)).toBe(false);
    }
    expect(remover.exitCode).toBe(null);
  });

  test('or it is said why they cannot be, and nowhere where there are none', async () => {
    const mounts = unified();
    await makeControlGroups('a', '');
    writeFileSync(join(root, 'unified/banger'), '');
    await expect(makeControlGroups('a', mounts)).rejects.toMatchObject({
      code: 'command_failed',
      message: expect.stringMatching(/^The control group ".*banger-a" cannot be made: ENOTDIR$/) as string,
      hint: expect.stringContaining('jailer = "never"') as string,
    });
  });
});

describe('groups of a VM are removed', () => {
  test('at every top, and the one that they were in when it has no others', async () => {
    const mounts = separate('memory', 'pids', 'freezer');
    for (const top of ['memory', 'pids', 'freezer'])
      mkdirSync(join(root, top, 'banger/banger-a'), { recursive: true });
    mkdirSync(join(root, 'pids/banger/banger-b'));
    await removeControlGroups('a', mounts);
    expect(existsSync(join(root, 'memory/banger'))).toBe(false);
    expect(readdirSync(join(root, 'pids/banger'))).toEqual(['banger-b']);
    // No group of ours is ever made there.
    expect(readdirSync(join(root, 'freezer/banger'))).toEqual(['banger-a']);
    await removeControlGroups('a', mounts);
  });

  test('by root alone, whose jailer makes them: nobody else fails over them', async () => {
    const mounts = separate('memory');
    mkdirSync(join(root, 'memory/banger/banger-a'), { recursive: true });
    const uid = vi.spyOn(process, 'getuid').mockReturnValue(1000);
    try {
      await removeControlGroups('a', mounts);
    } finally {
      uid.mockRestore();
    }
    expect(readdirSync(join(root, 'memory/banger'))).toEqual(['banger-a']);
  });

  test('without following a link, or removing what is no directory', async () => {
    const mounts = separate('memory', 'pids', 'cpu');
    for (const name of ['elsewhere/banger-a', 'memory/banger'])
      mkdirSync(join(root, name), { recursive: true });
    symlinkSync(join(root, 'elsewhere'), join(root, 'pids/banger'));
    symlinkSync(join(root, 'elsewhere/banger-a'), join(root, 'memory/banger/banger-a'));
    writeFileSync(join(root, 'cpu/banger'), '');
    await removeControlGroups('a', mounts);
    expect(readdirSync(join(root, 'elsewhere'))).toEqual(['banger-a']);
    expect(readdirSync(join(root, 'memory/banger'))).toEqual(['banger-a']);
    unlinkSync(join(root, 'memory/banger/banger-a'));
  });
});
