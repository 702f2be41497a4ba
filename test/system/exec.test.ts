import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openBanger, until } from '../support/banger.ts';

const banger = openBanger();
const exec = (...words: string[]) => banger.run(['vm', 'exec', ...words]);

beforeAll(async () => {
  await banger.ok(['vm', 'create', '--name', 'web', '--cpus', '2']);
});
afterAll(() => banger[Symbol.asyncDispose]());

test('a VM has the CPUs and the memory that were asked for', async () => {
  expect(await banger.guest('web', 'nproc')).toBe('2');
  expect(await banger.json('vm', 'show', 'web')).toMatchObject({ cpus: 2, memoryMib: 256 });
});

test.each([
  ['0', 'exit 0', 0],
  ['7', 'exit 7', 7],
  ['255', 'exit 255', 255],
  ['128+n of a signal', 'kill -TERM $$', 143],
  ['128+n of SIGKILL', 'kill -KILL $$', 137],
])("the exit code is the program's: %s", async (_, script, code) => {
  expect(await exec('web', '--', 'sh', '-c', script)).toMatchObject({ code, stdout: '', stderr: '' });
});

test('a program that does not exist exits with 127, one that cannot be run with 126', async () => {
  const missing = await exec('web', '--', 'no-such-program');
  expect(missing.code).toBe(127);
  expect(missing.stderr).toContain('no-such-program: not found');
  const denied = await exec('web', '--', '/etc/passwd');
  expect(denied.code).toBe(126);
  expect(denied.stderr).toContain('/etc/passwd: not executable');
});

test('a file of root gets no second name from anybody else, and no link of theirs in /tmp leads root', async () => {
  const linked = await exec('-u', 'nobody', 'web', '--', 'ln', '/etc/passwd', '/tmp/second');
  expect(linked).toMatchObject({ code: 1, stderr: expect.stringContaining('not permitted') as string });
  await exec('-u', 'nobody', 'web', '--', 'ln', '-s', '/etc/passwd', '/tmp/leads');
  const followed = await exec('web', '--', 'cat', '/tmp/leads');
  expect(followed).toMatchObject({ code: 1, stderr: expect.stringContaining('ermission denied') as string });
});

test('a command of any length arrives, as whoever it is to run as and with its input', async () => {
  const long = 'x'.repeat(120_000);
  const words = ['sh', '-c', 'echo "$A $(id -u) ${#1} $# $0"; cat; exit 7', "it's", ...Array(5).fill(long)];
  const ran = await banger.run(
    ['vm', 'exec', '-u', 'nobody', '-e', `A=${long.slice(0, 9_000)}`, 'web', '--', ...words],
    {
      input: 'read',
    },
  );
  expect(ran).toEqual({ ...ran, code: 7, stdout: `${long.slice(0, 9_000)} 65534 120000 5 it's\nread` });
  expect(await banger.guest('web', 'ls /run/banger/commands')).toBe('');
});

test('10 MB go through unchanged', async () => {
  const input = randomBytes(10_000_000);
  const { code, bytes } = await banger.run(['vm', 'exec', 'web', '--', 'cat'], { input });
  expect(code).toBe(0);
  expect(bytes.equals(input)).toBe(true);
});

/** Resident memory of a process, in MiB. */
function residentMib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

test('A21: a guest that floods a client which does not read is held back, and nobody grows', async () => {
  const engine = (await banger.enginePid())!;
  const before = residentMib(engine);
  const floods = ['1', '2'].map((output) => {
    const script = `echo $$ > /tmp/flood-${output}; exec cat /dev/zero >&${output}`;
    const child = banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', script]);
    return { output, child };
  });
  const written = async (): Promise<number[]> => {
    const counts = await Promise.all(
      floods.map(({ output }) =>
        banger.guest('web', `[ ! -s /tmp/flood-${output} ] || cat /proc/$(cat /tmp/flood-${output})/io`),
      ),
    );
    return counts.map((text) => Number(/^wchar: (\d+)/m.exec(text)?.[1] ?? 0));
  };
  let last: number[] = [];
  await until('both guests stand still in the middle of writing', async () => {
    const now = await written();
    const stood = now.every((count, index) => count > 0 && count === last[index]);
    last = now;
    return stood;
  });
  // What is under way is what pipes and windows hold; the guests would write hundreds of MiB in that time.
  expect(Math.max(...last)).toBeLessThan(16 * 1024 * 1024);
  expect(residentMib(engine) - before).toBeLessThan(48);
  for (const { child } of floods) expect(residentMib(child.pid!)).toBeLessThan(160);

  // It goes on as soon as it is read.
  const wanted = 32 * 1024 * 1024;
  for (const { output, child } of floods) {
    let bytes = 0;
    await new Promise<void>((resolve) => {
      (output === '1' ? child.stdout! : child.stderr!).on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > wanted) resolve();
      });
    });
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
  }
  expect(residentMib(engine) - before).toBeLessThan(64);
  await until('its programs have ended', async () => {
    const running = 'for f in /tmp/flood-*; do kill -0 $(cat $f) 2>/dev/null && echo runs; done; true';
    return (await banger.guest('web', running)) === '';
  });
});

test('standard output and standard error stay apart', async () => {
  expect(await exec('web', '--', 'sh', '-c', 'echo out; echo err >&2')).toMatchObject({
    stdout: 'out\n',
    stderr: 'err\n',
  });
});

test('arguments arrive as they are', async () => {
  const words = ['', ' two words ', "it's", '$HOME', '*', 'a\nb', '--', '-x', 'ä→', '"', '\\'];
  const { stdout } = await exec('web', '--', 'printf', '%s\\0', ...words);
  expect(stdout.split('\0').slice(0, -1)).toEqual(words);
});

test('--env sets variables, and takes a bare name from here', async () => {
  const { stdout } = await banger.run(
    ['vm', 'exec', '-e', 'A=1 = "one"', '-e', 'FROM_HERE', 'web', '--', 'sh', '-c', 'echo "$A|$FROM_HERE"'],
    { env: { FROM_HERE: 'there' } },
  );
  expect(stdout).toBe('1 = "one"|there\n');
});

test('--workdir says where; a directory that is missing is an error', async () => {
  expect((await exec('-w', '/etc', 'web', '--', 'pwd')).stdout).toBe('/etc\n');
  const missing = await exec('-w', '/no/such', 'web', '--', 'pwd');
  expect(missing.code).toBe(126);
  expect(missing.stderr).toContain('"/no/such" does not exist');
});

test('ten programs run at once over one connection', async () => {
  const runs = Array.from({ length: 10 }, (_, index) => exec('web', '--', 'echo', String(index)));
  const ends = await Promise.all(runs);
  expect(ends.map(({ code, stdout, stderr }) => ({ code, stdout, stderr }))).toEqual(
    runs.map((_, index) => ({ code: 0, stdout: `${index}\n`, stderr: '' })),
  );
});

test('SIGINT to the command reaches the program', async () => {
  const script = 'trap "echo interrupted; exit 3" INT; echo ready; while :; do sleep 0.1; done';
  const child = banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', script]);
  let output = '';
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  child.stdout!.on('data', (chunk: Buffer) => {
    if (output === '') child.kill('SIGINT');
    output += chunk.toString();
  });
  expect(await closed).toBe(3);
  expect(output).toBe('ready\ninterrupted\n');
});

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'a program does not outlive a client that %s has ended',
  async (signal) => {
    const script = 'echo ready; exec sleep 7100';
    const child = banger.start(['vm', 'exec', 'web', '--', 'sh', '-c', script]);
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.stdout!.once('data', () => child.kill(signal));
    await closed;
    const isThere = async (): Promise<boolean> => (await banger.guest('web', 'ps')).includes('sleep 7100');
    await until('the guest has ended it', async () => !(await isThere()));
  },
);

test('output that cannot be written is no success, and the program that prints it ends', async () => {
  const full = openSync('/dev/full', 'w');
  const [program, ...words] = banger.argv;
  const script = 'while :; do echo 7200; done; exit 7';
  const ran = spawn(program, [...words, 'vm', 'exec', 'web', '--', 'sh', '-c', script], {
    env: banger.env,
    stdio: ['ignore', full, 'pipe'],
  });
  closeSync(full);
  let said = '';
  ran.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  expect(await new Promise((resolve) => ran.once('close', resolve))).toBe(125);
  expect(said).toContain('banger: Standard output cannot be written: the disk is full');
  const isThere = async (): Promise<boolean> => (await banger.guest('web', 'ps')).includes('echo 7200');
  await until('the guest has ended it', async () => !(await isThere()));
});
