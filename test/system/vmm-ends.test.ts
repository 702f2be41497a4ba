import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { vmPause, vmResume } from '../../src/engine/rpc/vm-control-methods.ts';
import { vmCreate, vmShow, vmStart, vmStop, type VmView } from '../../src/engine/rpc/vm-methods.ts';
import { vmPaths } from '../../src/state/layout.ts';
import { collect, until, vmmPids, type Ran } from '../support/banger.ts';
import { openCrashLab } from '../support/crash-lab.ts';
import { createRepo } from '../support/git-repo.ts';
import { HostWorld } from '../support/host-world.ts';

const lab = openCrashLab();
let id: string;
let world: HostWorld;

beforeAll(async () => {
  ({ id } = await lab.call(vmCreate, { name: 'web' }));
  await lab.banger.guest('web', 'echo kept > /root/kept && sync');
  world = new HostWorld(lab.layout, lab.banger.home);
});
afterAll(() => lab[Symbol.asyncDispose]());

/** What was made before is there whatever was done since. */
beforeEach(async () => {
  await lab.call(vmStart, { vm: 'web' });
  expect(await guest('cat /root/kept')).toBe('kept');
});

const guest = (script: string): Promise<string> => lab.banger.guest('web', script);
const show = (): Promise<VmView> => lab.call(vmShow, { vm: 'web' });

/** Does something in the guest that ends it, and does not wait for an answer. */
const endGuest = (script: string) => lab.banger.run(['vm', 'exec', 'web', '--', 'sh', '-c', script]);

function killVmm(): void {
  const [pid, ...others] = vmmPids(id, readdirSync('/proc'));
  expect(others).toEqual([]);
  process.kill(pid!, 'SIGKILL');
}

/** Lets the guest's SSH service stand still: it is there, and answers nobody. */
async function freezeSsh(): Promise<void> {
  const script =
    'kill -STOP $(/run/banger/bin/busybox pidof dropbear); echo "ssh stands still" >/dev/console';
  lab.banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', script]).on('error', () => undefined);
  const console = () => readFileSync(vmPaths(lab.layout, id).consoleLog, 'latin1');
  await until('SSH stands still', () => console().includes('ssh stands still'), 30_000);
}

/** The VM is stopped by itself, and nothing of its VMM is left: process, port, socket, handles. */
async function stoppedByItself(): Promise<VmView> {
  await until('the VM is stopped', async () => (await show()).state === 'stopped', 30_000);
  expect(vmmPids(id, readdirSync('/proc'))).toEqual([]);
  expect(await world.findTrouble(await lab.quietEngine())).toEqual([]);
  return show();
}

/** Begins a verb, and kills the VMM when it has come to a point, where it waits for no longer than that takes. */
async function killVmmAt(point: string, act: () => Promise<unknown>): Promise<unknown> {
  lab.arm();
  const answer = act().catch((error: unknown) => error);
  await until(`${point} is reached`, () => lab.trace().includes(point), 60_000);
  killVmm();
  return answer;
}

test.each(['running', 'paused'])('a VMM that is killed while its VM is %s', async (state) => {
  if (state === 'paused') await lab.call(vmPause, { vm: 'web' });
  killVmm();
  expect((await stoppedByItself()).lastError).toContain('The VMM was killed from outside');
  await expect(lab.call(vmResume, { vm: 'web' })).rejects.toThrow('is stopped, not paused');
});

test.each(['vm.start/Booting guest:before', 'vm.start/Connecting:before'])(
  'a VMM that is killed while its VM is starting, at %s',
  async (point) => {
    await lab.call(vmStop, { vm: 'web' });
    const answer = await killVmmAt(point, () => lab.call(vmStart, { vm: 'web' }));
    expect(answer).toBeInstanceOf(Error);
    const { lastError } = await stoppedByItself();
    expect(lastError).toBe((answer as Error).message);
    expect(lastError).toMatch(/killed from outside|ended|connection|does not answer/);
  },
);

test('a VMM that is killed while its VM is stopping, before the guest has flushed', async () => {
  // One that answers has flushed within milliseconds.
  await freezeSsh();
  const stopping = killVmmAt('vm.stop/Flushing disks:before', () => lab.call(vmStop, { vm: 'web' }));
  expect(await stopping).toMatchObject({ state: 'stopped', flushed: false });
  expect((await stoppedByItself()).lastError).toBe(
    'The VMM ended before the guest had flushed its disks; what it had not written is lost',
  );
});

test.each([
  ['power-off', 'poweroff', undefined],
  ['reboot', 'reboot', 'The guest rebooted, which ends its VM; start it again with: banger vm start web'],
  [
    'kernel panic',
    'sync; echo c > /proc/sysrq-trigger',
    "The guest's kernel panicked; its console: banger vm logs web",
  ],
])('a guest that ends by its own %s', async (what, script, reason) => {
  await guest(`echo '${what}' > /root/before-end`);
  await endGuest(script);
  expect((await stoppedByItself()).lastError).toBe(reason);
  await lab.call(vmStart, { vm: 'web' });
  expect(await guest('cat /root/before-end')).toBe(what);
});

/** A program that runs in the guest until somebody ends it, which has begun. */
async function startWaiting(): Promise<{ readonly end: Promise<Ran> }> {
  const child = lab.banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', 'echo waits; exec sleep 3600']);
  const end = collect(child);
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return { end };
}

/** A stop that cannot ask the guest ends it, and says so. */
async function stopByForce(): Promise<void> {
  const { code, stderr } = await lab.banger.run(['vm', 'stop', 'web', '--timeout', '2s']);
  expect([code, stderr]).toEqual([0, expect.stringContaining('did not answer and was killed')]);
  expect((await stoppedByItself()).lastError).toContain('what it had not written is lost');
}

test('F4: when its SSH service is killed, calls under way and new ones fail with what to do, and it can be stopped', async () => {
  const waiting = await startWaiting();
  const killing = await endGuest('kill -KILL $(/run/banger/bin/busybox pidof dropbear)');
  for (const ran of [await waiting.end, killing, await endGuest('true')]) {
    expect(ran.code).toBe(125);
    expect(ran.stderr).toMatch(
      /^banger: The (connection to the guest was lost|guest does not answer over SSH)/m,
    );
    expect(ran.stderr).toContain('banger vm stop web');
  }
  expect((await show()).state).toBe('running');
  await stopByForce();
});

test('F5: when its SSH service hangs, every call has an end and says what to do; what needs no guest goes on', async () => {
  const tree = join(lab.banger.home, 'tree');
  const repo = createRepo(tree);
  repo.write('file', 'sent\n');
  repo.commit('one');
  await lab.banger.ok(['workspace', 'prepare', tree, '--vm', 'web']);
  await freezeSsh();

  const patch = join(lab.banger.home, 'patch');
  const needGuest: string[][] = [
    ['vm', 'exec', 'web', '--', 'true'],
    ['vm', 'ssh', 'web'],
    ['vm', 'cp', join(tree, 'file'), 'web:/root/copy'],
    ['vm', 'cp', 'web:/root/kept', join(lab.banger.home, 'copy')],
    ['vm', 'ports', 'web'],
    ['workspace', 'prepare', tree],
    ['workspace', 'export', tree, '-o', patch],
    ['workspace', 'apply', tree],
  ];
  const asked = needGuest.map(async (argv) => ({ argv: argv.join(' '), ...(await lab.banger.run(argv)) }));
  // Meanwhile.
  expect(await lab.banger.json('vm', 'stats', 'web')).toMatchObject([
    { guestError: 'It did not answer within 5 s' },
  ]);
  await lab.banger.ok(['vm', 'logs', 'web', '--tail', '1']);
  const grown = await lab.banger.run(['vm', 'set', 'web', '--disk', '9G']);
  expect([grown.code, grown.stderr + grown.stdout]).toEqual([
    0,
    expect.stringContaining('at the next start: 9 GiB'),
  ]);

  for (const { argv, code, stderr } of await Promise.all(asked)) {
    expect(code, argv).toBeGreaterThan(0);
    expect(stderr, argv).toMatch(/guest .*(does not|did not) answer/i);
    expect(stderr, argv).toContain('banger vm stop web');
  }
  expect([existsSync(patch), readFileSync(join(tree, 'file'), 'utf8')]).toEqual([false, 'sent\n']);
  await lab.call(vmPause, { vm: 'web' });
  await lab.call(vmResume, { vm: 'web' });
  await stopByForce();
});
