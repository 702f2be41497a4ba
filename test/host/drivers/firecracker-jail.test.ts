import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  decideJail,
  jailerArguments,
  jailPaths,
  type JailerOptions,
} from '../../../src/host/drivers/firecracker/jail.ts';

const id = '0123456789abcdef'.repeat(2);
const execFile = '/opt/firecracker-v1.14.1-x86_64';
const user = 0x7000_0001;
const args = (options: JailerOptions = {}, jailing = { execFile, user }) =>
  jailerArguments(jailing, { id, directory: '/state/jail', ...options }, ['--api-sock', '/api.socket']);

describe('arguments', () => {
  test('name the VM, its user, its group and its place, and end before those of Firecracker', () => {
    expect(args()).toEqual([
      ...['--id', `banger-${id}`, '--exec-file', execFile],
      ...['--uid', String(user), '--gid', String(user), '--chroot-base-dir', '/state/jail'],
      ...['--resource-limit', 'no-file=2048', '--', '--api-sock', '/api.socket'],
    ]);
  });

  test('keep the process that was started, with its console', () => {
    expect(args()).not.toContain('--daemonize');
    expect(args()).not.toContain('--new-pid-ns');
    expect(args()).not.toContain('--netns');
  });

  test('have limits and a control group when they are asked for', () => {
    const found = args({
      cgroup: { version: 2, parent: 'banger/vms', values: { 'pids.max': '64', 'memory.max': '1073741824' } },
      maxFileBytes: 1000,
      maxOpenFiles: 64,
    });
    expect(found.slice(found.indexOf('--cgroup-version'), found.indexOf('--'))).toEqual([
      ...['--cgroup-version', '2', '--parent-cgroup', 'banger/vms'],
      ...['--cgroup', 'pids.max=64', '--cgroup', 'memory.max=1073741824'],
      ...['--resource-limit', 'fsize=1000', '--resource-limit', 'no-file=64'],
    ]);
  });

  test.each<[string, JailerOptions]>([
    ['a group outside its parent', { cgroup: { version: 2, parent: '../system.slice', values: {} } }],
    ['a group with an absolute path', { cgroup: { version: 2, parent: '/banger', values: {} } }],
    ['a value with "="', { cgroup: { version: 2, parent: 'b', values: { 'cpu.max': 'a=b' } } }],
    ['an empty value', { cgroup: { version: 2, parent: 'b', values: { 'cpu.max': '' } } }],
    ['a file that is a path', { cgroup: { version: 2, parent: 'b', values: { '../cgroup.procs': '1' } } }],
    ['a file with two dots', { cgroup: { version: 2, parent: 'b', values: { 'memory.swap.max': '0' } } }],
  ])('are refused for %s', (_, options) => {
    expect(() => args(options)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  });

  test.each([
    ['root', { execFile, user: 0 }],
    ['no number', { execFile, user: Number.NaN }],
    ['the number that means nobody in particular', { execFile, user: 2 ** 32 - 1 }],
    ['another program', { execFile: '/usr/bin/qemu', user }],
    ['a relative program', { execFile: 'firecracker', user }],
  ])('are refused for %s', (_, jailing) => {
    expect(() => args({}, jailing)).toThrow(expect.objectContaining({ code: 'invalid_argument' }));
  });

  test.each(['a_b', 'a/b', '..', 'x'.repeat(58)])('are refused for the id "%s"', (wrong) => {
    const jail = { id: wrong, directory: '/state/jail' };
    expect(() => jailerArguments({ execFile, user }, jail, [])).toThrow(/no name for a jail/);
  });

  test('a jail is where the jailer makes it, beside the log of its VM', () => {
    expect(jailPaths('/state/vms/x/vmm.log', id, execFile)).toEqual({
      directory: '/state/vms/x/jail',
      root: `/state/vms/x/jail/firecracker-v1.14.1-x86_64/banger-${id}/root`,
      socket: `/state/vms/x/jail/firecracker-v1.14.1-x86_64/banger-${id}/root/api.socket`,
      pinnedSocket: '/state/vms/x/jail/control',
    });
  });
});

describe('a jail', () => {
  const all = '         0          0 4294967295';
  const rights = { uid: 0, status: 'CapEff:\t000001ffffffffff\n', uidMap: all, gidMap: all };
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'banger-jail-'));
    for (const name of ['release', 'bin']) mkdirSync(join(root, name));
    make('release/firecracker-v1.14.1-x86_64');
    symlinkSync('../release/firecracker-v1.14.1-x86_64', join(root, 'bin/firecracker'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const make = (path: string, mode = 0o755): void => {
    writeFileSync(join(root, path), '');
    chmodSync(join(root, path), mode);
  };
  const decide = (given: Partial<Parameters<typeof decideJail>[0]> = {}) =>
    decideJail({ wish: 'auto', program: 'firecracker', id, rights, searchPath: join(root, 'bin'), ...given });

  test('has the jailer of the release, else the one beside the program, else the one in PATH', () => {
    expect(decide().reason).toBe(`no jailer is beside "${join(root, 'bin/firecracker')}" or in PATH`);
    mkdirSync(join(root, 'path'));
    make('path/jailer');
    const searchPath = `${join(root, 'bin')}:${join(root, 'path')}`;
    expect(decide({ searchPath }).jailing).toEqual({
      jailer: join(root, 'path/jailer'),
      execFile: join(root, 'release/firecracker-v1.14.1-x86_64'),
      user: 0x7001_2345,
    });
    make('bin/jailer');
    expect(decide({ searchPath }).jailing?.jailer).toBe(join(root, 'bin/jailer'));
    make('release/jailer-v1.14.1-x86_64');
    expect(decide({ searchPath }).jailing?.jailer).toBe(join(root, 'release/jailer-v1.14.1-x86_64'));
  });

  test('is none without a jailer that can be executed, without root, and where the configuration says so', () => {
    make('bin/jailer', 0o644);
    expect(decide().reason).toMatch(/^no jailer is beside/);
    chmodSync(join(root, 'bin/jailer'), 0o755);
    expect(decide().jailing).toBeDefined();
    expect(decide({ rights: { ...rights, uid: 1000 } }).reason).toBe('its jailer needs root');
    expect(decide({ rights: { ...rights, uidMap: '0 100000 65536' } }).reason).toMatch(/may not become/);
    expect(decide({ wish: 'never' }).reason).toBe('the configuration forbids its jailer');
    expect(decide({ program: 'other' }).reason).toBe('"other" is not installed or not in PATH');
  });

  test('is none for a program whose name the jailer does not take', () => {
    make('bin/jailer');
    make('bin/fc');
    expect(decide({ program: join(root, 'bin/fc') }).reason).toBe(
      'jailers before release 1.13 start no program named "fc"',
    );
  });
});
