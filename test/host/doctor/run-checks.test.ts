import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../../src/host/exec.ts';
import { makeFakeFirecracker } from '../../support/firecracker-program.ts';
import { runChecks, type CheckInput } from '../../../src/host/doctor/run-checks.ts';
import { Scratch } from '../../../src/host/doctor/scratch.ts';
import { writeFakeQemu } from './fake-qemu.ts';

let root: string;
let scratch: Scratch;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  mkdirSync(join(root, 'temporary'));
  scratch = new Scratch(join(root, 'temporary'));
});
afterEach(async () => {
  await scratch.remove();
  rmSync(root, { recursive: true, force: true });
});

function input(given: Partial<CheckInput> = {}): CheckInput {
  const home = join(root, 'home');
  const config = {
    accel: 'auto',
    vmmDriver: 'auto',
    qemuProgram: writeFakeQemu(root, 'works'),
    firecrackerProgram: '/nonexistent/firecracker',
    firecrackerJailer: 'auto',
    diskMethod: 'auto',
    network: 'user',
  } as const;
  return {
    paths: {
      configFile: join(home, 'config.toml'),
      stateDirectory: join(home, 'state'),
      vmsDirectory: join(home, 'state/vms'),
      cacheDirectory: join(home, 'cache'),
      assetsDirectory: join(home, 'cache/assets'),
      runtimeDirectory: join(home, 'run'),
      engineSocket: join(home, 'run/engine.sock'),
      longestSocket: join(home, 'run/0123.control'),
      unownedNote: join(home, 'state/unowned.json'),
      kvmVerdictFile: join(home, 'cache/kvm-probe.json'),
      firecrackerVerdictFile: join(home, 'cache/firecracker-probe.json'),
      temporaryDirectory: join(root, 'temporary'),
    },
    readConfig: () => config,
    defaultConfig: config,
    kernel: async () => '/kernel',
    initrd: async () => '/initrd',
    guestId: async () => 'guest',
    scratch,
    jailScratch: scratch,
    onStage: () => undefined,
    kvmDevice: join(root, 'kvm'),
    kvmTimeoutMs: 60_000,
    ...given,
  };
}

test('every check reports once, under a name of its own', async () => {
  const { checks } = await runChecks(input());
  expect(checks.map((check) => check.id)).toEqual([
    'architecture',
    'kernel',
    'memory',
    'open-files',
    'qemu',
    'qemu-machines',
    'qemu-devices',
    'qemu-confinement',
    'qemu-img',
    'git',
    'firecracker',
    'kvm',
    'firecracker-kvm',
    'acceleration',
    'disks',
    'config',
    'state-directory',
    'state-space',
    'unowned',
    'cache-directory',
    'assets-directory',
    'cache-space',
    'cache-exec',
    'runtime-directory',
    'temporary-directory',
    'loopback',
    'bridges',
    'firewall',
    'leftovers',
    'engine',
    'session',
    'names',
    'default-network',
    'socket-path',
  ]);
});

test('texts are ASCII, and what fails or warns says more than yes or no', async () => {
  const { checks } = await runChecks(input());
  const odd = checks.filter((check) => /[^\x20-\x7e]/.test(check.title + check.evidence + (check.fix ?? '')));
  expect(odd).toEqual([]);
  expect(checks.filter((check) => check.evidence === '')).toEqual([]);
});

test('the host is left as it was', async () => {
  writeFileSync(join(root, 'kvm'), '');
  const { acceleration } = await runChecks(input());
  expect(acceleration).toBe('kvm');
  await scratch.remove();
  expect(readdirSync(join(root, 'temporary'))).toEqual([]);
  const qemu = ['qemu-works', 'qemu-works.pid', 'qemu-works.starts'];
  expect(readdirSync(root).sort()).toEqual(['kvm', ...qemu, 'temporary']);
});

test('a wrong configuration fails by itself; the other checks go by the defaults', async () => {
  const readConfig = (): never => {
    throw new BangerError('invalid_argument', 'unknown key "vm.cpu"');
  };
  const { checks } = await runChecks(input({ readConfig }));
  const failed = checks.filter((check) => ['config', 'qemu'].includes(check.id));
  expect(failed.map(({ id, status }) => [id, status])).toEqual([
    ['qemu', 'pass'],
    ['config', 'fail'],
  ]);
});

test('whatever a check throws becomes a result', async () => {
  const temporary = join(root, 'missing');
  writeFileSync(join(root, 'kvm'), '');
  const { checks } = await runChecks(
    input({
      paths: { ...input().paths, stateDirectory: '/bad\0path', temporaryDirectory: temporary },
      scratch: new Scratch(temporary),
      jailScratch: new Scratch(temporary),
      exec: () => Promise.reject(new TypeError('broken')),
    }),
  );
  const of = (id: string): string | undefined => checks.find((check) => check.id === id)?.status;
  expect(['qemu', 'state-directory', 'state-space', 'temporary-directory', 'kvm'].map(of)).toEqual([
    'fail',
    'fail',
    'fail',
    'fail',
    'skip',
  ]);
});

test('a temporary directory that cannot be used is no verdict on KVM', async () => {
  writeFileSync(join(root, 'kvm'), '');
  const { checks } = await runChecks(input({ scratch: new Scratch(join(root, 'missing')) }));
  const kvm = checks.find((check) => check.id === 'kvm');
  expect(kvm?.status).toBe('warn');
  expect(kvm?.evidence).toContain('could not be tried: ENOENT');
});

test('a configuration that insists on a Firecracker without a jailer is fine where a guest boots on it', async ({
  skip,
}) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  if (process.getuid!() !== 0) skip('needs root, who has a jailer to miss');
  for (const name of ['kvm', 'kernel', 'initrd']) writeFileSync(join(root, name), '');
  const fake = await makeFakeFirecracker(root);
  fake.behave({ console: 'banger-probe-ok\n' });
  const { defaultConfig, ...rest } = input();
  const config = { ...defaultConfig, vmmDriver: 'firecracker', firecrackerProgram: fake.program } as const;
  const { checks } = await runChecks({
    ...rest,
    defaultConfig: config,
    readConfig: () => config,
    kernel: async () => join(root, 'kernel'),
    initrd: async () => join(root, 'initrd'),
  });
  const statusOf = (id: string) => checks.find((check) => check.id === id);
  expect(statusOf('firecracker')).toMatchObject({ status: 'warn' });
  expect(statusOf('firecracker-kvm')).toMatchObject({ status: 'pass' });
  expect(statusOf('acceleration')).toMatchObject({ status: 'pass' });
});
