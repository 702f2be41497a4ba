import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { collect, ended, openBanger, until, vmmPids } from '../support/banger.ts';
import { testBuild } from '../support/test-build.ts';

const banger = openBanger();
banger.configure('[vm]\nmemory = "128M"\ncpus = 1\n\n[vmm]\naccel = "tcg"\n');
banger.env['STRAY_PASSWORD'] = 'geheim-stray';
afterAll(() => banger[Symbol.asyncDispose]());

const socket = join(banger.home, 'run/engine.sock');
const show = (): Promise<{ id: string; state: string; bootId: string; lastError?: string }> =>
  banger.json('vm', 'show', 'web');
const startsOf = (log: string): number => readFileSync(log, 'utf8').split('"engine starts"').length - 1;

test('R1: fifty commands at once start one engine, and all are served', async () => {
  const runs = await Promise.all(Array.from({ length: 50 }, () => banger.run(['ps', '--json'])));
  expect(new Set(runs.map(({ code, stdout, stderr }) => `${code} ${stdout} ${stderr}`))).toEqual(
    new Set(['0 []\n ']),
  );
  expect(startsOf(join(banger.home, 'state/engine.log'))).toBe(1);
  expect(existsSync(join(banger.home, 'state/engine-start.lock'))).toBe(false);
});

test('R3: a socket that a killed engine has left keeps nobody out', async () => {
  const pid = (await banger.enginePid())!;
  process.kill(pid, 'SIGKILL');
  await ended(pid);
  expect(existsSync(socket)).toBe(true);
  expect(await banger.json('ps')).toEqual([]);
});

const asRoot = test.skipIf(process.getuid!() !== 0);
asRoot('A30: another user of the host cannot connect (needs root to be another user)', () => {
  expect(statSync(socket).mode & 0o777).toBe(0o600);
  expect(statSync(join(banger.home, 'run')).mode & 0o777).toBe(0o700);
  const code = `require('net').connect(${JSON.stringify(socket)}).on('error', (e) => console.log(e.code))
    .on('connect', () => { console.log('connected'); process.exit(); })`;
  const node = spawnSync('setpriv', [
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    '--',
    'node',
    '-e',
    code,
  ]);
  const python = `import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex(${JSON.stringify(socket)}))`;
  const other = spawnSync('setpriv', [
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    'python3',
    '-c',
    python,
  ]);
  // Node may not be where another user can run it.
  expect([node.stdout.toString().trim(), other.stdout.toString().trim()]).toEqual(
    expect.arrayContaining([expect.stringMatching(/^(EACCES|13)$/)]),
  );
  expect(node.stdout.toString()).not.toContain('connected');
});

test('A31: clients with another XDG_RUNTIME_DIR, a missing one, or none, share one engine', async () => {
  const home = join(banger.home, 'user');
  const runtime = join(home, 'runtime');
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  const base = { BANGER_HOME: '', HOME: home, XDG_STATE_HOME: '', XDG_CACHE_HOME: '', XDG_CONFIG_HOME: '' };
  const temporary = { TMPDIR: home };
  const first = { ...base, ...temporary, XDG_RUNTIME_DIR: runtime };
  try {
    expect(await banger.ok(['ps', '--json'], { env: first })).toBe('[]');
    for (const XDG_RUNTIME_DIR of ['', '/nowhere', '/proc'])
      expect(await banger.ok(['ps', '--json'], { env: { ...base, ...temporary, XDG_RUNTIME_DIR } })).toBe(
        '[]',
      );
    expect(startsOf(join(home, '.local/state/banger/engine.log'))).toBe(1);
  } finally {
    const { pid } = JSON.parse(await banger.ok(['engine', 'status', '--json'], { env: first })) as {
      pid: number;
    };
    await banger.ok(['engine', 'stop'], { env: first });
    await ended(pid);
  }
});

test('A36: a VMM has nothing of the environment that started the engine, and cannot leave a core dump', async () => {
  await banger.ok(['vm', 'create', '--name', 'web']);
  const [vmm] = vmmPids((await show()).id, readdirSync('/proc'));
  expect(readFileSync(`/proc/${vmm}/environ`, 'latin1')).not.toContain('geheim');
  for (const pid of [vmm, await banger.enginePid()])
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/^Max core file size +0 +0 /m);
  const key = readFileSync(join(banger.home, 'state/ssh/id_ed25519'), 'latin1').split('\n')[2]!;
  const grep = spawnSync('grep', [
    '-rlaF',
    '-e',
    'geheim',
    '-e',
    key,
    join(banger.home, 'state'),
    '--exclude=disk.qcow2',
    // Made before there was a VM, and 8 GiB of holes to read.
    '--exclude=rootfs.ext4',
  ]);
  expect(grep.stdout.toString().trim()).toBe(join(banger.home, 'state/ssh/id_ed25519'));
});

test('F7: an engine that was stopped goes on where it was, with what it was waiting for', async () => {
  const pid = (await banger.enginePid())!;
  const before = await show();
  const running = collect(
    banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', 'read x; echo got $x']),
    'it\n',
  );
  process.kill(pid, 'SIGSTOP');
  const asked = banger.run(['vm', 'exec', 'web', '--', 'echo', 'later']);
  // Longer than what counts as standing still (host/patience.ts).
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  process.kill(pid, 'SIGCONT');
  expect(await running).toMatchObject({ code: 0, stdout: 'got it\n' });
  expect(await asked).toMatchObject({ code: 0, stdout: 'later\n' });
  expect(await show()).toMatchObject({ state: 'running', bootId: before.bootId });
});

test('F12: an engine of another build takes over running VMs, and so does the first one again', async () => {
  const before = await show();
  const other = openBanger(banger.home, testBuild);
  const pid = (await banger.enginePid())!;
  expect(await other.json('vm', 'show', 'web')).toMatchObject({ state: 'running', bootId: before.bootId });
  await ended(pid);
  expect(await show()).toMatchObject({ state: 'running', bootId: before.bootId });
  expect(await banger.guest('web', 'echo there')).toBe('there');
});

test('F10: a VMM that is killed is told with the signal', async () => {
  await banger.ok(['vm', 'restart', 'web']);
  const [vmm] = vmmPids((await show()).id, readdirSync('/proc'));
  process.kill(vmm!, 'SIGKILL');
  await until('the VM is stopped', async () => (await show()).state === 'stopped', 20_000);
  expect((await show()).lastError).toMatch(/^The VMM was killed (from outside )?by SIGKILL/);
});
