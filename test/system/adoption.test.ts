import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { vmKill } from '../../src/engine/rpc/vm-control-methods.ts';
import { vmCreate, vmShow, vmStart, vmStop } from '../../src/engine/rpc/vm-methods.ts';
import type { Handles } from '../../src/engine/handles.ts';
import { guestProtocol } from '../../src/host/guest-protocol.ts';
import { identifyProcess, isAlive, killProcess } from '../../src/host/process.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { killEngine, openCrashLab } from '../support/crash-lab.ts';

const lab = openCrashLab();
const decoys: ChildProcess[] = [];
let id: string;
let file: string;

beforeAll(async () => {
  ({ id } = await lab.call(vmCreate, { name: 'web' }));
  file = vmPaths(lab.layout, id).handles;
});
afterAll(async () => {
  for (const decoy of decoys) decoy.kill('SIGKILL');
  await lab[Symbol.asyncDispose]();
});

const readHandles = (): Handles => JSON.parse(readFileSync(file, 'utf8')) as Handles;
const writeHandles = (handles: object): void => writeFileSync(file, JSON.stringify(handles));

/** A process that is none of ours, though its command line names the VM, as an editor's or a grep's may. */
async function startDecoy(): Promise<{ pid: number; startTime: string; bootId: string }> {
  const words = ['-e', 'setInterval(() => {}, 1e6)', '--', '-name', `banger-${id}`, '-nodefaults'];
  const decoy = spawn(process.execPath, words, { stdio: 'ignore' });
  decoys.push(decoy);
  await once(decoy, 'spawn');
  return identifyProcess(decoy.pid!)!;
}

const damages: [string, (right: Handles) => unknown][] = [
  ['missing', () => rmSync(file)],
  ['cut short', () => truncateSync(file, 40)],
  ['empty', () => truncateSync(file)],
  ['of another form', () => writeHandles({ process: 'me' })],
  [
    'of a pid that another process has now',
    async (right) => {
      const { pid } = await startDecoy();
      writeHandles({ ...right, process: { ...right.process, pid } });
    },
  ],
  ['of another process altogether', async (right) => writeHandles({ ...right, process: await startDecoy() })],
  [
    'of another boot of the host',
    (right) => writeHandles({ ...right, process: { ...right.process, bootId: 'another' } }),
  ],
];

test.each(damages)('a VM whose handle file is %s is adopted as it runs', async (_, damage) => {
  const before = await lab.call(vmShow, { vm: 'web' });
  const right = readHandles();
  await killEngine(await lab.quietEngine());
  await damage(right);

  expect(await lab.call(vmShow, { vm: 'web' })).toMatchObject({ state: 'running', bootId: before.bootId });
  expect(readHandles()).toMatchObject({ process: right.process, sshPort: right.sshPort });
  expect(await lab.banger.guest('web', 'cat /proc/sys/kernel/random/boot_id')).toBe(before.bootId);
});

/** The next engine knows of what the guest speaks only what is written: a number, or nothing. */
async function handOver(guestProtocol: number | undefined): Promise<void> {
  await killEngine(await lab.quietEngine());
  writeHandles({ ...readHandles(), guestProtocol });
}

const answer = () => lab.banger.run(['vm', 'exec', 'web', '--', 'echo', 'there']);

test('F6: a guest whose part is newer is refused by name, not misread, and stops with its disks flushed', async () => {
  expect(readHandles().guestProtocol).toBe(guestProtocol);
  await lab.banger.guest('web', 'echo 17 > /run/banger/protocol');
  const spoken = `banger-exec/${guestProtocol}`;
  expect(await answer()).toMatchObject({
    code: 125,
    stdout: '',
    stderr: `banger: this guest speaks protocol 17, and was asked with "${spoken}": restart its VM\n`,
  });
  for (const written of [undefined, 17]) {
    await handOver(written);
    const refused = await answer();
    expect(refused).toMatchObject({ code: 125, stdout: '' });
    expect(refused.stderr).toContain('VM "web" was started by a newer banger: its guest speaks protocol 17');
    expect(refused.stderr).toContain('banger vm restart web');
  }
  expect(await lab.call(vmStop, { vm: 'web' })).toMatchObject({ state: 'stopped', flushed: true });
  await lab.call(vmStart, { vm: 'web' });
  expect(await answer()).toMatchObject({ code: 0, stdout: 'there\n' });
});

test('F6: a guest whose part is from before there were numbers is asked in its own words', async () => {
  const session = '/run/banger/lib/session';
  const asBefore = [
    's|/$_banger_protocol "|"" "|',
    '/^  banger-protocol)/d',
    '/^  banger-exec.*banger-toolbox/,/;;$/d',
    '/^read -r _banger_protocol/d',
  ].flatMap((edit) => ['-e', edit]);
  await lab.banger.ok(['vm', 'exec', 'web', '--', 'sed', '-i', ...asBefore, session]);
  // In today's words it would be a program that its shell does not find.
  expect(await answer()).toMatchObject({ code: 127, stdout: '' });
  for (const written of [undefined, 1]) {
    await handOver(written);
    expect(await answer()).toMatchObject({ code: 0, stdout: 'there\n', stderr: '' });
  }
  expect(await lab.banger.json('vm', 'stats', 'web')).toMatchObject([{ guest: { load: expect.any(Array) } }]);
  expect(await lab.call(vmStop, { vm: 'web' })).toMatchObject({ state: 'stopped', flushed: true });
  await lab.call(vmStart, { vm: 'web' });
});

test('what only looks like a VMM is neither adopted nor ended, also when the VM is killed', async () => {
  const right = readHandles();
  await lab.call(vmKill, { vm: 'web' });
  expect(isAlive(right.process)).toBe(false);
  expect(decoys.length).toBeGreaterThan(0);
  for (const decoy of decoys) expect(identifyProcess(decoy.pid!)).toBeDefined();
});

test('after a reboot of the host, what was left of VMs is gone, and they start again', async () => {
  await lab.call(vmStart, { vm: 'web' });
  const right = readHandles();
  await lab.banger.guest('web', 'echo kept > /root/kept && sync');
  await killEngine(await lab.quietEngine());
  await killProcess(right.process);
  const decoy = await startDecoy();
  writeHandles({ ...right, process: { ...decoy, bootId: 'before' } });

  expect(await lab.call(vmShow, { vm: 'web' })).toMatchObject({ state: 'stopped' });
  expect(isAlive(decoy)).toBe(true);
  await lab.call(vmStart, { vm: 'web' });
  expect(await lab.banger.guest('web', 'cat /root/kept')).toBe('kept');
});
