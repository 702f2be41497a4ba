import { spawn, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** How one run of the program ended, and what it said. */
export interface Ran {
  readonly code: number | null;
  readonly bytes: Buffer;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: Buffer | string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The program under test with a home of its own, which goes with it. */
export interface Banger extends AsyncDisposable {
  readonly home: string;
  /** Program and arguments that run it */
  readonly argv: readonly [string, ...string[]];
  readonly env: Record<string, string | undefined>;
  /** Runs it to its end, whatever that is */
  run(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Runs it and returns stdout without trailing newline; throws with everything said unless it exits with 0 */
  ok(args: readonly string[], options?: RunOptions): Promise<string>;
  /** Like `ok`, with `--json` */
  json<T = Record<string, unknown>>(...args: string[]): Promise<T>;
  /** Runs a shell command in a guest */
  guest(vm: string, script: string): Promise<string>;
  start(args: readonly string[], options?: RunOptions): ChildProcess;
  configure(toml: string): void;
  enginePid(): Promise<number | undefined>;
}

/** What tests configure unless they say otherwise. */
export const smallVms = '[vm]\nmemory = "256M"\n\n[vmm]\naccel = "auto"\n';

/** BANGER_TEST_BINARY may name another build, or a script for Node such as `bin/banger.ts`. */
export function programArgv(
  name = process.env['BANGER_TEST_BINARY'] ?? 'dist/banger',
): [string, ...string[]] {
  const program = resolve(name);
  if (!existsSync(program)) throw new Error(`${program} does not exist. Make it with: npm run build`);
  return /\.(ts|cjs)$/.test(program) ? [process.execPath, program] : [program];
}

/** `home` may name a directory that is there already, `program` another one than tests use. */
export function openBanger(home = makeShortTempDirectory(), program?: string): Banger {
  const argv = programArgv(program);
  const env: Banger['env'] = {
    ...process.env,
    BANGER_HOME: home,
    TERM: 'dumb',
    NODE_OPTIONS: undefined,
  };
  const configure = (toml: string): void => writeFileSync(join(home, 'config.toml'), toml);
  configure(smallVms);

  const start = (args: readonly string[], options: RunOptions = {}): ChildProcess =>
    spawn(argv[0], [...argv.slice(1), ...args], {
      cwd: options.cwd ?? home,
      env: { ...env, ...options.env },
      stdio: 'pipe',
    });
  const run = (args: readonly string[], options: RunOptions = {}): Promise<Ran> =>
    collect(start(args, options), options.input);
  const ok = async (args: readonly string[], options?: RunOptions): Promise<string> => {
    const ran = await run(args, options);
    if (ran.code !== 0)
      throw new Error(`banger ${args.join(' ')}: exit code ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
    return ran.stdout.replace(/\n$/, '');
  };
  const json = async <T>(...args: string[]): Promise<T> => {
    const dashes = args.indexOf('--');
    return JSON.parse(await ok(args.toSpliced(dashes < 0 ? args.length : dashes, 0, '--json'))) as T;
  };
  const enginePid = async (): Promise<number | undefined> =>
    (await json<{ pid?: number }>('engine', 'status')).pid;

  return {
    home,
    argv,
    env,
    run,
    ok,
    json,
    start,
    configure,
    enginePid,
    guest: (vm, script) => ok(['vm', 'exec', vm, '--', 'sh', '-c', script]),
    async [Symbol.asyncDispose]() {
      configure(smallVms);
      const vms = await json<{ name: string }[]>('vm', 'list');
      if (vms.length > 0) await ok(['vm', 'delete', ...vms.map((vm) => vm.name)]);
      const pid = await enginePid();
      await run(['engine', 'stop']);
      if (pid !== undefined) await ended(pid);
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Sockets live in it: their paths must stay short. */
export function makeShortTempDirectory(): string {
  return realpathSync(mkdtempSync(join(tmpdir(), 'bt-')));
}

/** Waits until a process is gone; one that stays is an error, and is ended. */
export async function ended(pid: number, timeoutMs = 20_000): Promise<void> {
  for (let waited = 0; waited < timeoutMs; waited += 50) {
    if (!isProcess(pid)) return;
    await sleep(50);
  }
  process.kill(pid, 'SIGKILL');
  throw new Error(`Process ${pid} was still there after ${timeoutMs} ms`);
}

/** Looks again and again until it is so: for what happens in another process that tells nobody. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline;) {
    if (await isSo()) return;
    await sleep(100);
  }
  throw new Error(`After ${timeoutMs} ms it was still not so: ${what}`);
}

/** Pids of VMMs that have this text on their command line: a VM's id, or a home. */
export function vmmPids(text: string, pids: readonly string[]): number[] {
  return pids
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      const words = commandLine(pid);
      return words[0]?.includes('qemu') && words.some((word) => word.includes(text));
    })
    .map(Number);
}

function commandLine(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // It has just ended.
  }
}

/** A zombie counts as gone: whoever reaps it is not our business. */
function isProcess(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

export async function collect(child: ChildProcess, input?: Buffer | string): Promise<Ran> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
  // A program that ends before it has read everything is no error of the test's.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(input);
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  const bytes = Buffer.concat(stdout);
  return { code, bytes, stdout: bytes.toString(), stderr: Buffer.concat(stderr).toString() };
}

export function makeDirectory(...parts: string[]): string {
  const path = join(...parts);
  mkdirSync(path, { recursive: true });
  return path;
}
