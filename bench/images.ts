/**
 * Images: a registry on loopback, and everything compared within one run, so that the machine's mood does not count.
 *
 * A pull is `banger image pull` as a user sees it, process start to exit, with an engine that is running and an empty
 * cache. Beside it: `skopeo copy`, `umoci unpack` and `mkfs.ext4 -d` of the same image, gunzip of its layers in Node,
 * and for many small files extraction by node-tar and `mkfs.ext4 -d`. A pull ends with the image on the disk, what the
 * tools make may still be in memory: that is not made up for. All take turns, round after round, and medians are
 * compared. Then what pulls cost others: the engine's peak memory, how long its event loop is blocked, in the first two
 * pulls of an engine too, and how long a small question to it takes meanwhile.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RpcClient } from '../src/engine/rpc/client.ts';
import { engineStatus } from '../src/engine/rpc/engine-methods.ts';
import { openBanger } from '../test/support/banger.ts';
import { debianLayout, packLayout, program } from '../test/support/images.ts';
import { startRegistryServer } from '../test/support/registry-server.ts';
import { directory, file, tarOf } from '../test/support/tar-builder.ts';
import { gunzipLayers, withNodeTar, withTools } from './image-baselines.ts';
import { watchEventLoop } from './event-loop.ts';
import { median } from './raw-guest.ts';

const comparisons = ['debian', 'many', 'others', 'shared'] as const;
const usage = `usage: bench/images.sh [ROUNDS [${comparisons.join('|')}]...]`;
const rounds = Number(process.argv[2] ?? 3);
const wanted = process.argv.length > 3 ? process.argv.slice(3) : comparisons;
const entries = 60_000;
const pingIntervalMs = 5;

process.chdir(resolve(import.meta.dirname, '..'));
const work = mkdtempSync(join(tmpdir(), 'bi-'));
const misses: string[] = [];

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  const isKnown = (name: string): boolean => comparisons.some((known) => known === name);
  if (!Number.isInteger(rounds) || rounds < 1 || !wanted.every(isKnown)) throw new Error(usage);
  const accessLog = join(work, 'access.log');
  try {
    await using registry = await startRegistryServer({ accessLog });
    await using banger = openBanger();
    // Starts the engine, which is running in all comparisons.
    await banger.ok(['image', 'list']);
    const bench = new Bench(banger, registry.host);
    const debian = await debianLayout();
    const layouts = { debian, shared: await sharedLayout(debian), many: await manyFilesLayout() };
    for (const [name, layout] of Object.entries(layouts)) await registry.push(layout, `${name}:test`);

    if (wanted.includes('debian')) await measureDebian(bench, debian);
    if (wanted.includes('many')) await measureManyFiles(bench, layouts.many);
    if (wanted.includes('others')) await measureOthers(bench);
    if (wanted.includes('shared')) await measureShared(bench, accessLog);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  if (misses.length === 0) return;
  process.stdout.write(`missed: ${misses.join(', ')}\n`);
  process.exitCode = 1;
}

/** Prints a line of the result, and remembers a bound that does not hold. */
function report(
  title: string,
  value: number,
  bound: { readonly least?: number; readonly most?: number },
): void {
  const { least = -Infinity, most = Infinity } = bound;
  const wanted = least === -Infinity ? `<= ${most}` : `>= ${least}`;
  process.stdout.write(`${title.padEnd(58)}${value.toFixed(2).padStart(8)}  (wanted: ${wanted})\n`);
  if (value < least || value > most) misses.push(title);
}

/** Pulls with a banger of its own. */
class Bench {
  readonly #banger: ReturnType<typeof openBanger>;
  readonly host: string;

  constructor(banger: ReturnType<typeof openBanger>, host: string) {
    this.#banger = banger;
    this.host = host;
  }

  status(): Promise<{ pid: number; version: string; build: string; socket: string }> {
    return this.#banger.json('engine', 'status');
  }

  pull(name: string): Promise<string> {
    return this.#banger.ok(['image', 'pull', `${this.host}/${name}:test`]);
  }

  /** Deletes images, and the blobs they were made of. */
  async forget(...names: readonly string[]): Promise<void> {
    await this.#banger.ok(['image', 'delete', ...names.map((name) => `${this.host}/${name}:test`)]);
    await this.forgetBlobs();
  }

  async forgetBlobs(): Promise<void> {
    rmSync(join(this.#banger.home, 'cache/blobs'), { recursive: true, force: true });
  }

  async freshPull(name: string): Promise<number> {
    const seconds = await timed(() => this.pull(name));
    await this.forget(name);
    return seconds;
  }
}

async function measureDebian(bench: Bench, layout: string): Promise<void> {
  // It starts the engine, and the files of the registry are in memory then.
  await bench.freshPull('debian');
  const times = await interleaved({
    gunzip: () => timed(() => gunzipLayers(layout)),
    pull: () => bench.freshPull('debian'),
    tools: () => inScratch((scratch) => withTools(bench.host, 'debian', scratch)),
  });
  tell(`debian: skopeo, umoci and mkfs.ext4 ${spread(times.tools)}, pull ${spread(times.pull)}`);
  const pull = median(times.pull);
  report('debian: skopeo + umoci + mkfs.ext4, beside a pull', median(times.tools) / pull, { least: 5 });
  report('debian: pull, beside gunzip', pull / median(times.gunzip), { most: 2 });
}

async function measureManyFiles(bench: Bench, layout: string): Promise<void> {
  await bench.freshPull('many');
  const times = await interleaved({
    pull: () => bench.freshPull('many'),
    tools: () => inScratch((scratch) => withNodeTar(layout, scratch)),
  });
  tell(`${entries} entries: node-tar and mkfs.ext4 ${spread(times.tools)}, pull ${spread(times.pull)}`);
  const ratio = median(times.tools) / median(times.pull);
  report(`${entries} entries: node-tar + mkfs.ext4, beside a pull`, ratio, { least: 15 });
}

/**
 * Seconds of each in turn, round after round, so that a mood of the machine is nobody's own. Before each, what others
 * have written is on the disk: nobody waits for that.
 */
async function interleaved<Name extends string>(
  measures: Readonly<Record<Name, () => Promise<number>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(measures) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, number[]>;
  for (let round = 1; round <= rounds; round++) {
    for (const name of names) {
      await program('sync', []);
      times[name].push(await measures[name]());
    }
    const shown = names.map((name) => `${name} ${times[name].at(-1)!.toFixed(2)} s`);
    tell(`round ${round}: ${shown.join(', ')}`);
  }
  return times;
}

/** Median, and what it lies between. */
function spread(seconds: readonly number[]): string {
  const [least, most] = [Math.min(...seconds), Math.max(...seconds)];
  return `${median(seconds).toFixed(2)} s (${least.toFixed(2)} to ${most.toFixed(2)})`;
}

/** What pulls cost the engine's other clients: two at once, which is worse than one. */
async function measureOthers(bench: Bench): Promise<void> {
  {
    await using banger = openBanger();
    await banger.ok(['image', 'list']);
    await watchTwoPulls(new Bench(banger, bench.host), 'the first two pulls');
  }
  const pid = await watchTwoPulls(bench, 'two pulls');
  const peak = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1];
  report('peak memory of the engine after all pulls, MB', Number(peak) / 1024, { most: 250 });
}

/** Returns the engine's pid. */
async function watchTwoPulls(bench: Bench, what: string): Promise<number> {
  const { pid, version, build, socket } = await bench.status();
  const client = await RpcClient.dial(socket, { version, buildId: build });
  let isDone = false;
  const delays: number[] = [];
  const pinging = (async () => {
    while (!isDone) {
      delays.push(1000 * (await timed(() => client.call(engineStatus, {}))));
      await sleep(pingIntervalMs);
    }
  })();
  const loop = await watchEventLoop(pid);
  await Promise.all([bench.pull('debian'), bench.pull('many')]);
  const longestMs = await loop.longestMs();
  isDone = true;
  await pinging;
  client.close();
  await bench.forget('debian', 'many');
  const slow = delays.filter((delay) => delay > 20).map((delay) => delay.toFixed(0));
  // Answers wait for a processor as well, which this process, two commands and a registry want at the same time.
  tell(`${delays.length} answers, median ${median(delays).toFixed(1)} ms; over 20 ms: ${slow.join(' ')}`);
  report(`longest block of the event loop in ${what}, ms`, longestMs, { most: 50 });
  return pid;
}

/** Fetches of layers, as the registry saw them. */
async function measureShared(bench: Bench, accessLog: string): Promise<void> {
  const before = readFileSync(accessLog, 'utf8').length;
  await bench.pull('debian');
  await bench.pull('shared');
  const lines = readFileSync(accessLog, 'utf8').slice(before).split('\n');
  const fetched = lines.flatMap((line) => /"GET \S*\/blobs\/(sha256:[0-9a-f]{64})/.exec(line)?.[1] ?? []);
  if (fetched.length === 0) throw new Error(`${accessLog} tells of no download`);
  report('blobs fetched twice for images that share layers', fetched.length - new Set(fetched).size, {
    most: 0,
  });
  await bench.forget('debian', 'shared');
}

/** The image, with a layer more. */
async function sharedLayout(base: string): Promise<string> {
  const layout = join(work, 'shared');
  cpSync(base, layout, { recursive: true });
  const tar = join(work, 'shared.tar');
  writeFileSync(tar, tarOf([directory('opt'), file('opt/more', 'more')]));
  await packLayout(layout, [tar]);
  return layout;
}

/** Small files of text, as in a tree of packages. */
async function manyFilesLayout(): Promise<string> {
  const perDirectory = 30;
  const specs = Array.from({ length: entries }, (_, index) => {
    const parent = `srv/${Math.floor(index / perDirectory)}`;
    if (index % perDirectory === 0) return directory(parent);
    return file(`${parent}/${index}.js`, `export const number = ${index};\n`.repeat(1 + (index % 120)));
  });
  const [layout, tar] = [join(work, 'many'), join(work, 'many.tar')];
  writeFileSync(tar, tarOf(specs));
  await packLayout(layout, [tar]);
  rmSync(tar);
  return layout;
}

/** Seconds of work in a new directory. Removing what it made is nobody's time. */
async function inScratch(task: (directory: string) => Promise<void>): Promise<number> {
  const directory = mkdtempSync(join(work, 's-'));
  try {
    return await timed(() => task(directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
