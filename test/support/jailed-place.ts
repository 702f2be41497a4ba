import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { RunningVmm } from '../../src/host/drivers/driver.ts';
import { findControlGroups } from '../../src/host/drivers/firecracker/control-groups.ts';
import { firecrackerDriver } from '../../src/host/drivers/firecracker.ts';
import type { FirecrackerSpec } from '../../src/host/drivers/firecracker/machine.ts';
import { rootlessRefusal } from '../../src/host/drivers/firecracker/namespace.ts';
import { removeJailOf } from '../../src/host/drivers/firecracker/remove-jail.ts';
import { readOwnRights, vmUser } from '../../src/host/drivers/qemu-confinement.ts';
import { exec } from '../../src/host/exec.ts';
import { killProcess, type ProcessIdentity } from '../../src/host/process.ts';
import { makeFakeFirecracker, type FakeFirecracker } from './firecracker-program.ts';
import { makeFakeJailer } from './jailer-program.ts';

/** A Firecracker (fake-firecracker.ts) that is started by a jailer (fake-jailer.ts), and what it takes. */
/** Of nobody else's: control groups are named after it. */
export const id = randomBytes(16).toString('hex');
/** Whom its VM's VMM becomes; undefined where we may not make it somebody else */
export const user = vmUser(id, readOwnRights());
/** Why nothing is jailed here. */
export const refusal = user === undefined ? 'that needs root, who may become another user' : whyNoDevices();
if (refusal !== undefined) process.stderr.write(`Note: nothing is jailed here: ${refusal}\n`);

export const networkRefusal = await rootlessRefusal(exec);
if (networkRefusal !== undefined)
  process.stderr.write(`Note: no VMM gets a network here: ${networkRefusal}\n`);

/** A container's root may make no devices, and mount nothing. */
function whyNoDevices(): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'banger-node-'));
  try {
    execFileSync('mknod', [join(directory, 'kvm'), 'c', '10', '232'], { stdio: 'pipe' });
    execFileSync('unshare', ['--mount', '--propagation', 'private', 'true'], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return String(error);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Where everything of a test is. */
export let root: string;
/** The directory of its VM. */
export let vm: string;
export let fake: FakeFirecracker;
export let spec: FirecrackerSpec;
export const started: ProcessIdentity[] = [];

/** Makes that for each test of a file, with the VM's directory as far down as asked. */
export function prepareJailedPlace(below = ''): void {
  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'banger-jailed-'));
    vm = join(root, below, 'vm');
    const programs = join(root, 'bin');
    for (const directory of [vm, programs]) mkdirSync(directory, { mode: 0o700, recursive: true });
    fake = await makeFakeFirecracker(programs);
    makeFakeJailer(programs);
    // What the fake notes, it notes as the jailed user.
    for (const name of ['requests.jsonl', 'sizes']) writeFileSync(join(programs, name), '');
    execFileSync('chmod', ['-R', 'a+rwX', programs]);
    for (const name of ['kernel', 'initrd', 'disk']) writeFileSync(join(vm, name), 'x', { mode: 0o600 });
    spec = {
      id,
      cpus: 1,
      memoryMib: 128,
      kernel: join(vm, 'kernel'),
      initrd: join(vm, 'initrd'),
      disk: { path: join(vm, 'disk'), format: 'raw' },
      consoleLog: join(vm, 'console.log'),
      vmmLog: join(vm, 'vmm.log'),
      controlSocket: join(root, `${id}.control`),
      network: {},
      acceleration: 'kvm',
    };
  });
  afterEach(async () => {
    for (const process of started.splice(0)) await killProcess(process);
    await removeJailOf({ id, vmmLog: join(vm, 'vmm.log') });
    rmSync(root, { recursive: true, force: true });
  });
}

export const driver = (jailer: 'auto' | 'always' | 'never' = 'always') =>
  // Jailer and VMM are programs for Node here, whose start takes its time on a busy host.
  firecrackerDriver(fake.program, { jailer, startTimeoutMs: 120_000 });

export async function start(changes: Partial<FirecrackerSpec> = {}): Promise<RunningVmm> {
  const process = await driver().start({ ...spec, ...changes }, new AbortController().signal);
  started.push(process);
  const { controlSocket, consoleLog, vmmLog } = spec;
  return { process, controlSocket, consoleLog, vmmLog, disk: spec.disk!.path };
}

export const bodyOf = (path: string) => fake.changes.find((one) => one.path === path)?.body;
export const statusOf = (pid: number, field: string) =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];

/** Control groups that a VM has. */
export function groupsOf(vmId: string): string[] {
  const tops = Object.values(findControlGroups().hierarchies?.tops ?? {});
  return tops.map((top) => join(top, 'banger', `banger-${vmId}`)).filter((group) => existsSync(group));
}
