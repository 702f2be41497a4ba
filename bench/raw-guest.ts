/** The same guest as banger's, started by hand: what banger is measured against. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** What was needed to start a VM that banger has started, copied so that it outlives that VM. */
export interface Recipe {
  readonly argv: readonly string[];
  readonly initrd: Buffer;
  /** The image that its disk is an overlay over */
  readonly backing: string;
  /** The guest's SSH host key, OpenSSH format */
  readonly hostKey: string;
  readonly clientKey: string;
  /** Words before each program of it, such as those that enter a network namespace */
  readonly prefix?: readonly string[];
}

export interface RawGuest {
  /** From the overlay disk being there to OpenSSH's client having run `true` */
  readonly seconds: number;
  /** Runs a script in it by OpenSSH's client, and returns what it prints */
  run(script: string): Promise<string>;
  end(): Promise<void>;
}

const readyTimeoutMs = 180_000;

/** Reads how a running VM was started. `show` is what `vm show --json` said of it. */
export function recipeOf(
  show: { readonly id: string; readonly hostPublicKey: string },
  clientKey: string,
): Recipe {
  const argv = qemuCommandLine(show.id);
  return {
    argv,
    initrd: readFileSync(argument(argv, '-initrd')),
    backing: backingFile(argument(argv, '-drive')),
    hostKey: show.hostPublicKey,
    clientKey,
  };
}

/** Boots the guest on a fresh overlay disk and a port of its own, its files in `directory`, until SSH answers. */
export async function bootRaw(recipe: Recipe, directory: string, name: string): Promise<RawGuest> {
  const file = (what: string): string => join(directory, `${name}.${what}`);
  const port = await freePort();
  const [keyType, key] = recipe.hostKey.split(' ');
  writeFileSync(file('known'), `[127.0.0.1]:${port} ${keyType} ${key}\n`);
  writeFileSync(file('initrd'), recipe.initrd);
  await runAsync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-F',
    'raw',
    '-b',
    recipe.backing,
    file('disk'),
  ]);
  const argv = recipe.argv.map((word, index, all) => {
    const option = all[index - 1];
    if (option === '-initrd') return file('initrd');
    if (option === '-chardev') return word.replace(/path=[^,]*/, `path=${file('console')}`);
    if (option === '-qmp') return `unix:${file('qmp')},server=on,wait=off`;
    if (option === '-name') return `raw-${name}`;
    // That of the VM may have gone with it.
    if (option === '-run-with') return word.replace(/chroot=[^,]*/, `chroot=${file('root')}`);
    if (option === '-chroot') return file('root');
    if (option === '-drive') return word.replace(/file=.*/, `file=${file('disk')}`);
    if (option === '-netdev') return word.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`);
    return word;
  });
  rmSync(file('console'), { force: true });
  mkdirSync(file('root'), { recursive: true });
  const began = performance.now();
  const { prefix = [] } = recipe;
  const [program, ...words] = [...prefix, ...argv];
  const child = spawn(program!, words, { stdio: 'ignore' });
  const exited = new Promise((done) => child.once('exit', done));
  const end = async (): Promise<void> => {
    child.kill('SIGKILL');
    await exited;
    for (const what of ['disk', 'qmp', 'initrd', 'console', 'known', 'root'])
      rmSync(file(what), { force: true, recursive: true });
  };
  try {
    const run = (script: string): Promise<string> =>
      runBySsh({ port, known: file('known'), key: recipe.clientKey, prefix }, script);
    const answers = (): Promise<boolean> =>
      run('true').then(
        () => true,
        () => false,
      );
    while (!(isReady(file('console')) && (await answers()))) {
      if (performance.now() - began > readyTimeoutMs) throw new Error('the raw guest did not answer');
      await sleep(10);
    }
    return { seconds: (performance.now() - began) / 1000, run, end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** QEMU accepts connections before its guest does, and they hang: no attempt is worth making before the ready line. */
function isReady(consoleLog: string): boolean {
  return existsSync(consoleLog) && readFileSync(consoleLog, 'latin1').includes('banger-ready');
}

interface SshTarget {
  readonly port: number;
  readonly known: string;
  readonly key: string;
  readonly prefix: readonly string[];
}

function runBySsh(target: SshTarget, script: string): Promise<string> {
  const options = [`UserKnownHostsFile=${target.known}`, 'StrictHostKeyChecking=yes', 'BatchMode=yes'];
  const words = [...options.flatMap((option) => ['-o', option]), '-F', 'none', '-i', target.key];
  const place = ['-p', String(target.port), 'root@127.0.0.1'];
  const [program, ...rest] = [...target.prefix, 'ssh', ...words, ...place, script];
  return runAsync(program!, rest);
}

function qemuCommandLine(id: string): string[] {
  const pid = runSync('pgrep', ['-f', `banger-${id}`])
    .trim()
    .split('\n')[0]!;
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
}

function backingFile(drive: string): string {
  const disk = /file=(.*)$/.exec(drive)![1]!;
  const info = JSON.parse(runSync('qemu-img', ['info', '-U', '--output=json', disk])) as {
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

/** Runs a program to its end and returns what it printed; throws with what it complained of. */
export function runSync(program: string, words: readonly string[], env = process.env): string {
  const { status, stdout, stderr } = spawnSync(program, words, { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(`"${program} ${words.join(' ')}" exited with ${status}: ${stderr}`);
  return stdout;
}

/** The same, beside others. */
export async function runAsync(
  program: string,
  words: readonly string[],
  env = process.env,
): Promise<string> {
  const child = spawn(program, words, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => (stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (stderr += String(chunk)));
  const status = await new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  if (status !== 0)
    throw new Error(`"${program} ${words.join(' ')}" exited with ${String(status)}: ${stderr}`);
  return stdout;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
