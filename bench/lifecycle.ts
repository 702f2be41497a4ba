/**
 * Scale on one machine. Everything is compared within one run, so that the machine's mood does not count.
 *
 * Creates: eight `vm create --image base` at once until all have returned (SSH answers then), beside the very
 * command lines that banger ran, eight at once, until OpenSSH's client has run `true` in each. `ps`: with 500 VMs
 * that are not running, beside none. At rest: RSS and voluntary context switches of the engine over all its threads,
 * without VMs and with eight idle ones, a while after the last command. MB are the kernel's: 1024 kB.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase } from '../src/state/database.ts';
import { bootRaw, median, recipeOf, runAsync, runSync, type RawGuest, type Recipe } from './raw-guest.ts';

const rounds = Number(process.argv[2] ?? 3);
const parallel = 8;
const rows = 500;
const psRuns = 20;
/** From the last command until the engine counts as resting, and how long it is watched then. */
const settleMs = 15_000;
const watchMs = 30_000;

const root = resolve(import.meta.dirname, '..');
const banger = join(root, 'dist/banger');
const home = mkdtempSync(join(tmpdir(), 'bl-'));
const env = { PATH: process.env['PATH'], HOME: home, BANGER_HOME: home };
const misses: string[] = [];

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  if (!existsSync(banger)) throw new Error('dist/banger is missing; make it with: npm run build');
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('usage: bench/lifecycle.sh [ROUNDS]');
  writeFileSync(join(home, 'config.toml'), '[vmm]\naccel = "tcg"\n');
  try {
    await measureCreates();
    const empty = await measureRest();
    await measureVms(empty);
    measurePs();
  } finally {
    deleteAll();
    call('engine', 'stop');
    rmSync(home, { recursive: true, force: true });
  }
  if (misses.length === 0) return;
  process.stdout.write(`missed: ${misses.join(', ')}\n`);
  process.exitCode = 1;
}

/** Prints a line of the result, and remembers a bound that does not hold. */
function report(title: string, value: number, bound: number, unit = ''): void {
  process.stdout.write(`${title.padEnd(46)}${value.toFixed(2).padStart(8)}${unit}  (wanted: <= ${bound})\n`);
  if (value > bound) misses.push(title);
}

async function measureCreates(): Promise<void> {
  // Assets and image are unpacked once per machine, not once per VM.
  call('vm', 'create', '--no-start', '--name', 'warm');
  call('vm', 'delete', 'warm');
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const { seconds, recipes } = await createAll();
    ours.push(seconds);
    theirs.push(await bootAllRaw(recipes));
    process.stderr.write(
      `round ${round}: ${parallel} creates ${seconds.toFixed(2)} s, ${parallel} raw QEMUs ${theirs.at(-1)!.toFixed(2)} s\n`,
    );
  }
  report(`${parallel} parallel creates beside raw QEMU`, median(ours) / median(theirs), 1.15);
}

async function createAll(): Promise<{ seconds: number; recipes: Recipe[] }> {
  const names = Array.from({ length: parallel }, (_, index) => `p${index}`);
  const began = performance.now();
  await allOf(names.map((name) => create(name)));
  const seconds = (performance.now() - began) / 1000;
  const recipes = names.map((name) =>
    recipeOf(
      JSON.parse(call('vm', 'show', name, '--json')) as { id: string; hostPublicKey: string },
      join(home, 'state/ssh/id_ed25519'),
    ),
  );
  deleteAll();
  return { seconds, recipes };
}

async function bootAllRaw(recipes: readonly Recipe[]): Promise<number> {
  const began = performance.now();
  const booted: RawGuest[] = [];
  const boot = async (recipe: Recipe, index: number): Promise<void> => {
    booted.push(await bootRaw(recipe, home, String(index)));
  };
  try {
    await allOf(recipes.map(boot));
    return (performance.now() - began) / 1000;
  } finally {
    await Promise.all(booted.map((guest) => guest.end()));
  }
}

/** Waits until all have ended, so that none goes on behind a failure of another. */
async function allOf(tasks: readonly Promise<unknown>[]): Promise<void> {
  for (const task of await Promise.allSettled(tasks)) if (task.status === 'rejected') throw task.reason;
}

/** The engine that has done all that, without a VM. Returns its RSS. */
async function measureRest(): Promise<number> {
  const pid = enginePid();
  await sleep(settleMs);
  const memory = residentMb(pid);
  report('engine at rest, no VM', memory, 80, ' MB');
  return memory;
}

async function measureVms(emptyMb: number): Promise<void> {
  await allOf(Array.from({ length: parallel }, (_, index) => create(`v${index}`)));
  const pid = enginePid();
  await sleep(settleMs);
  report('engine, for each running VM', (residentMb(pid) - emptyMb) / parallel, 3, ' MB');
  const before = wakeUps(pid);
  await sleep(watchMs);
  report(`engine's wake-ups in 10 s, ${parallel} idle VMs`, (wakeUps(pid) - before) / (watchMs / 10_000), 1);
  deleteAll();
}

/** Rows are written into the database: what `ps` costs does not depend on how they came there. */
function measurePs(): void {
  call('vm', 'create', '--no-start', '--name', 'pattern');
  const empty = medianPs('vm', 'delete', 'pattern');
  call('vm', 'create', '--no-start', '--name', 'pattern');
  call('engine', 'stop');
  insertRows();
  call('ps');
  const full = medianPs();
  call('engine', 'stop');
  deleteRows();
  process.stderr.write(`ps: ${empty.toFixed(1)} ms empty, ${full.toFixed(1)} ms with ${rows} rows\n`);
  report(`ps with ${rows} rows beside an empty one`, full / empty, 1.5);
}

/** Milliseconds of `ps`, once the command given has been run. */
function medianPs(...before: readonly string[]): number {
  if (before.length > 0) call(...before);
  const times = Array.from({ length: psRuns + 2 }, () => {
    const began = performance.now();
    call('ps');
    return performance.now() - began;
  });
  return median(times.slice(2));
}

/** Copies of the one VM there is, whatever columns it has. */
function insertRows(): void {
  const db = openDatabase(join(home, 'state/banger.db'));
  const columns = (db.pragma('table_info(vms)') as { name: string }[]).map(({ name }) => name);
  const values = columns.map(
    (name) => ({ id: '@id', name: '@name', control_socket: '@socket' })[name] ?? name,
  );
  const insert = db.prepare(`INSERT INTO vms (${columns.join()}) SELECT ${values.join()} FROM vms LIMIT 1`);
  db.transaction(() => {
    for (let index = 1; index < rows; index++) {
      const id = `f${index.toString(16).padStart(31, '0')}`;
      insert.run({ id, name: `row-${index}`, socket: join(home, 'run', `${id}.control`) });
    }
  })();
  db.close();
}

function deleteRows(): void {
  const db = openDatabase(join(home, 'state/banger.db'));
  db.exec("DELETE FROM vms WHERE name LIKE 'row-%'");
  db.close();
}

/** Memory that the kernel holds for a process, shared pages of files included, in MB of 1024 kB. */
function residentMb(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1];
  return Number(kib) / 1024;
}

/** How often any thread of a process has gone to sleep, and so has been woken, until now. */
function wakeUps(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .map((task) => readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8'))
    .map((text) => Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(text)![1]))
    .reduce((sum, count) => sum + count, 0);
}

function enginePid(): number {
  return (JSON.parse(call('engine', 'status', '--json')) as { pid: number }).pid;
}

function create(name: string): Promise<string> {
  const size = ['--cpus', '1', '--memory', '128M'];
  return runAsync(banger, ['vm', 'create', '--image', 'base', '--name', name, ...size], env);
}

function deleteAll(): void {
  const names = call('ps', '-q').split('\n').filter(Boolean);
  if (names.length > 0) call('vm', 'delete', ...names);
}

function call(...words: readonly string[]): string {
  return runSync(banger, words, env);
}
