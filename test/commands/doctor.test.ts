import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { doctorCommand } from '../../src/commands/doctor.ts';
import type { Assets } from '../../src/host/assets.ts';
import { resolveLayout } from '../../src/state/layout.ts';
import { writeFakeQemu, writeFakeVmm } from '../host/doctor/fake-qemu.ts';

let root: string;
let home: string;
let temporary: string;
let path: string | undefined;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
  home = join(root, 'home');
  temporary = join(root, 'temporary');
  mkdirSync(home);
  mkdirSync(temporary);
  writeTool('qemu-img', 'qemu-img version 8.1.2');
  writeTool('git', 'git version 2.43.0');
  path = process.env['PATH'];
  process.env['PATH'] = `${join(root, 'bin')}:${path}`;
});
afterEach(() => {
  process.env['PATH'] = path;
  rmSync(root, { recursive: true, force: true });
});

/** Programs that are looked up by name: the host's own may be missing. */
function writeTool(name: string, line: string): void {
  mkdirSync(join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'bin', name), `#!/bin/sh\necho '${line}'\n`, { mode: 0o700 });
}

interface Diagnosis {
  readonly ok: boolean;
  readonly summary: string;
  readonly acceleration: string;
  readonly checks: readonly { readonly id: string; readonly status: string }[];
  readonly boot?: { readonly kind: string; readonly phases: readonly { readonly id: string }[] };
}

interface Run {
  readonly value: Diagnosis;
  readonly text: string;
  readonly exitCode: number;
  readonly stages: readonly (string | undefined)[];
  readonly unpackedTo: readonly string[];
}

/** Runs the command on this host, as far as programs and the KVM device are not replaced. */
async function doctor(argv: readonly string[], config: string): Promise<Run> {
  writeFileSync(join(home, 'config.toml'), config);
  const layout = resolveLayout({
    env: { BANGER_HOME: home },
    home: '/nonexistent',
    uid: process.getuid!(),
    temporaryDirectory: temporary,
  });
  const stages: (string | undefined)[] = [];
  const unpackedTo: string[] = [];
  const outcome = { value: undefined as Diagnosis | undefined, text: '', exitCode: 0 };
  const cli = {
    callIfRunning: () => Promise.resolve(undefined),
    showProgress: (event: { stage: string } | undefined) => stages.push(event?.stage),
    print: (value: Diagnosis, text: (value: Diagnosis) => string) => {
      outcome.value = value;
      outcome.text = text(value);
    },
    exitWith: (code: number) => {
      outcome.exitCode = code;
    },
  } as unknown as Cli;
  const openAssets = (directory: string): Assets => {
    unpackedTo.push(directory);
    return { buildId: 'test', file: async (name) => join(directory, name), open: () => Readable.from([]) };
  };
  const kvmDevice = join(root, 'kvm');
  const kvmTimeoutMs = 60_000;
  await doctorCommand(cli, { layout, temporaryDirectory: temporary, openAssets, kvmDevice, kvmTimeoutMs })
    .exitOverride()
    .parseAsync([...argv], { from: 'user' });
  return { ...outcome, value: outcome.value!, stages, unpackedTo };
}

const qemu = (path: string): string => `[vmm]\nqemu = "${path}"\n`;

test('a host without KVM can run VMs, and is told how', async () => {
  const { value, text, exitCode, unpackedTo } = await doctor([], qemu(writeFakeQemu(root, 'works')));
  const summary = 'This host can run VMs (emulated; expect CPU work to be 10 to 20 times slower).';
  expect(value).toMatchObject({ ok: true, summary, acceleration: 'tcg' });
  expect(text.split('\n').at(-1)).toBe(summary);
  expect(text).toMatch(/^warn {2}KVM +\S+kvm does not exist: emulation is used/m);
  expect(text).toMatch(/^ok {4}QEMU +8\.1\.2 \(/m);
  expect(exitCode).toBe(0);
  expect(unpackedTo).toEqual([]);
});

test('KVM that boots a guest is full speed', async () => {
  writeFileSync(join(root, 'kvm'), '');
  const { value, stages } = await doctor([], qemu(writeFakeQemu(root, 'works')));
  expect(value).toMatchObject({ ok: true, acceleration: 'kvm' });
  expect(value.summary).toBe('This host can run VMs at full speed, with KVM.');
  expect([...new Set(stages)]).toEqual(['Checking the host', 'Booting a guest on KVM', undefined]);
});

test('a host that cannot run VMs is told what to do, and the exit code says so', async () => {
  const { value, text, exitCode } = await doctor([], qemu('/nonexistent/qemu'));
  expect(value).toMatchObject({ ok: false, summary: 'This host cannot run VMs yet: 1 problem' });
  const lines = text.split('\n');
  const failed = lines.findIndex((line) => line.startsWith('FAIL  QEMU '));
  expect(lines[failed]).toContain('"/nonexistent/qemu" is not installed or not in PATH');
  expect(lines[failed + 1]).toMatch(/^ {8,}Install /);
  expect(exitCode).toBe(1);
});

test('a key that is not known fails, and names itself', async () => {
  const { text, exitCode } = await doctor([], '[vm]\ncpu = 2\n');
  expect(text).toMatch(/^FAIL {2}Configuration .*unknown key "vm\.cpu"/m);
  expect(exitCode).toBe(1);
});

test('nothing is made anywhere, no engine is started, and nothing temporary stays', async () => {
  writeFileSync(join(root, 'kvm'), '');
  const { unpackedTo } = await doctor(['--boot'], qemu(writeFakeQemu(root, 'fails')));
  expect(readdirSync(home)).toEqual(['config.toml']);
  expect(readdirSync(temporary)).toEqual([]);
  expect(unpackedTo).toHaveLength(1);
  expect(unpackedTo[0]?.startsWith(join(temporary, 'banger-doctor-'))).toBe(true);
});

test('a trial boot shows what takes how long', async () => {
  const vmm = writeFakeVmm(root, 'banger-probe-ok\n');
  const { value, text, exitCode } = await doctor(['--boot'], qemu(vmm));
  expect(value.checks.at(-1)).toMatchObject({ id: 'boot', status: 'pass' });
  expect(value.boot).toMatchObject({ kind: 'kernel' });
  expect(text).toMatch(/\nPHASE +SECONDS\nUnpacking the kernel +0\.\d\d\n/);
  expect(text).toMatch(/\nTotal +\d+\.\d\d\n\nThis host can run VMs/);
  expect(exitCode).toBe(0);
});

test('a trial boot that fails is a failed check', async () => {
  const { value, text, exitCode } = await doctor(['--boot'], qemu(writeFakeQemu(root, 'fails')));
  expect(text).toMatch(/^FAIL {2}Trial boot +QEMU ended at once: qemu: could not enable KVM$/m);
  expect(value.boot).toBeUndefined();
  expect(exitCode).toBe(1);
});
