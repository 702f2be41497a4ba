/**
 * Boot times, interleaved in one run.
 *
 * The baseline is the very command line that banger ran (same kernel, initrd, machine, image), on a fresh overlay
 * disk and a port of its own, started by hand, until OpenSSH's client has logged in and run `true`. banger's side is
 * `vm create --image base` from typing it to its end: reservation, disk, boot and an open SSH connection included.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const rounds = Number(process.argv[2] ?? 5);
const target = 1.25;
const root = resolve(import.meta.dirname, '..');
const banger = join(root, 'dist/banger');
const home = mkdtempSync(join(tmpdir(), 'bb-'));
const size = ['--cpus', '1', '--memory', '512M'];
const env = { PATH: process.env['PATH'], HOME: home, BANGER_HOME: home };

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  if (!existsSync(banger)) throw new Error('dist/banger is missing; make it with: npm run build');
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('usage: bench/boot.sh [ROUNDS]');
  try {
    // Warms caches on both sides: assets and image unpacked, engine running, KVM probed.
    const raw = rawGuest(create('warm'));
    await raw();
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 1; round <= rounds; round++) {
      ours.push(timeCreate(`r${round}`));
      theirs.push(await raw());
      process.stderr.write(
        `round ${round}: vm create ${ours.at(-1)!.toFixed(2)} s, raw QEMU ${theirs.at(-1)!.toFixed(2)} s\n`,
      );
    }
    print(ours, theirs);
  } finally {
    for (const name of callBanger(['ps', '-q']).split('\n').filter(Boolean))
      callBanger(['vm', 'delete', name]);
    callBanger(['engine', 'stop']);
    rmSync(home, { recursive: true, force: true });
  }
}

function print(ours: readonly number[], theirs: readonly number[]): void {
  const ratio = median(ours) / median(theirs);
  const seconds = (values: readonly number[]): string =>
    `median ${median(values).toFixed(2)} s, least ${Math.min(...values).toFixed(2)} s`;
  process.stdout.write(
    `banger vm create --image base  ${seconds(ours)}\n` +
      `raw QEMU until ssh has run true  ${seconds(theirs)}\n` +
      `ratio of medians  ${ratio.toFixed(2)}  (wanted: <= ${target})\n` +
      `${rounds} interleaved rounds\n`,
  );
}

/** Creates a VM and returns its id. */
function create(name: string): string {
  callBanger(['vm', 'create', '--image', 'base', '--name', name, ...size]);
  return (JSON.parse(callBanger(['vm', 'show', name, '--json'])) as { id: string }).id;
}

function timeCreate(name: string): number {
  const began = performance.now();
  callBanger(['vm', 'create', '--image', 'base', '--name', name, ...size]);
  const elapsed = (performance.now() - began) / 1000;
  callBanger(['vm', 'delete', name]);
  return elapsed;
}

/** A function that boots the guest of a running VM by hand, and returns the seconds it took. The VM itself is stopped. */
function rawGuest(id: string): () => Promise<number> {
  const argv = qemuCommandLine(id);
  const initrd = readFileSync(argument(argv, '-initrd'));
  const backing = backingFile(argument(argv, '-drive'));
  callBanger(['vm', 'stop', 'warm']);
  const known = join(home, 'known_hosts');
  const [keyType, key] = (
    JSON.parse(callBanger(['vm', 'show', 'warm', '--json'])) as { hostPublicKey: string }
  ).hostPublicKey.split(' ');
  const copy = join(home, 'raw-initrd');
  writeFileSync(copy, initrd);

  return async () => {
    const port = await freePort();
    writeFileSync(known, `[127.0.0.1]:${port} ${keyType} ${key}\n`);
    const disk = join(home, 'raw.qcow2');
    run('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', backing, disk]);
    const changed = argv.map((word, index) => {
      if (argv[index - 1] === '-initrd') return copy;
      if (argv[index - 1] === '-chardev')
        return word.replace(/path=[^,]*/, `path=${join(home, 'raw-console')}`);
      if (argv[index - 1] === '-qmp') return `unix:${join(home, 'raw-qmp')},server=on,wait=off`;
      if (argv[index - 1] === '-name') return 'raw';
      if (argv[index - 1] === '-drive') return word.replace(/file=.*/, `file=${disk}`);
      if (argv[index - 1] === '-netdev') return word.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`);
      return word;
    });
    rmSync(join(home, 'raw-console'), { force: true });
    const began = performance.now();
    const child = spawn(changed[0]!, changed.slice(1), { stdio: 'ignore' });
    const exited = new Promise((done) => child.once('exit', done));
    try {
      while (!answers(port, known)) {
        if (performance.now() - began > 120_000) throw new Error('the raw guest did not answer within 120 s');
        await sleep(10);
      }
      return (performance.now() - began) / 1000;
    } finally {
      child.kill('SIGKILL');
      await exited;
      rmSync(disk, { force: true });
      rmSync(join(home, 'raw-qmp'), { force: true });
    }
  };
}

/** QEMU accepts connections before its guest does, and they hang: no attempt is worth making before the ready line. */
function answers(port: number, known: string): boolean {
  const consoleLog = join(home, 'raw-console');
  if (!existsSync(consoleLog) || !readFileSync(consoleLog, 'latin1').includes('banger-ready')) return false;
  const options = [
    '-o',
    `UserKnownHostsFile=${known}`,
    '-o',
    'StrictHostKeyChecking=yes',
    '-o',
    'BatchMode=yes',
    '-F',
    'none',
  ];
  const key = join(home, 'state/ssh/id_ed25519');
  const ssh = spawnSync('ssh', [...options, '-i', key, '-p', String(port), 'root@127.0.0.1', 'true'], {
    stdio: 'ignore',
  });
  return ssh.status === 0;
}

function qemuCommandLine(id: string): string[] {
  const pid = run('pgrep', ['-f', `banger-${id}`])
    .trim()
    .split('\n')[0]!;
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
}

function backingFile(drive: string): string {
  const disk = /file=(.*)$/.exec(drive)![1]!;
  const info = JSON.parse(run('qemu-img', ['info', '-U', '--output=json', disk])) as {
    'full-backing-filename': string;
  };
  return info['full-backing-filename'];
}

function argument(argv: readonly string[], name: string): string {
  return argv[argv.indexOf(name) + 1]!;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}

function callBanger(words: readonly string[]): string {
  return run(banger, words);
}

function run(program: string, words: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, words, { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`"${program} ${words.join(' ')}" exited with ${status}: ${stderr}`);
  return stdout;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
