/**
 * Images: a registry on loopback, and everything compared within one run, so that the machine's mood does not count.
 *
 * A pull is `banger image pull` as a user sees it, process start to exit, with an engine that is running and an empty
 * cache. Beside it: `skopeo copy`, `umoci unpack` and `mkfs.ext4 -d` of the same image, gunzip of its layers in Node,
 * and for many small files extraction by node-tar and `mkfs.ext4 -d`. A pull ends with the image on the disk, what the
 * tools make may still be in memory: that is not made up for. Then what pulls cost others: the engine's peak
 * memory, how long its event loop is blocked, and how long a small question to it takes meanwhile.
 */
import {
  createReadStream,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar';
import { RpcClient } from '../src/engine/rpc/client.ts';
import { engineStatus } from '../src/engine/rpc/engine-methods.ts';
import { openBanger } from '../test/support/banger.ts';
import { debianLayout, packLayout, program } from '../test/support/images.ts';
import { startRegistryServer } from '../test/support/registry-server.ts';
import { directory, file, tarOf } from '../test/support/tar-builder.ts';
import { watchEventLoop } from './event-loop.ts';
import { median } from './raw-guest.ts';

const comparisons = ['debian', 'many', 'others', 'shared'] as const;
const usage = `usage: bench/images.sh [ROUNDS [${comparisons.join('|')}]...]`;
const rounds = Number(process.argv[2] ?? 3);
const wanted = process.argv.length > 3 ? process.argv.slice(3) : comparisons;
const entries = 60_000;
const filesystemBytes = String(8 * 1024 ** 3);
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
  const ours: number[] = [];
  const gunzips: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    gunzips.push(await timed(() => gunzipLayers(layout)));
    ours.push(await bench.freshPull('debian'));
    tell(`round ${round}: pull ${ours.at(-1)!.toFixed(2)} s, gunzip ${gunzips.at(-1)!.toFixed(2)} s`);
  }
  // Once: it is slow.
  const tools = await timed(() => withTools(bench.host, 'debian'));
  tell(`skopeo, umoci and mkfs.ext4: ${tools.toFixed(2)} s`);
  report('debian: skopeo + umoci + mkfs.ext4, beside a pull', tools / median(ours), { least: 5 });
  report('debian: pull, beside gunzip', median(ours) / median(gunzips), { most: 2 });
}

async function measureManyFiles(bench: Bench, layout: string): Promise<void> {
  const extraction = await timed(() => withNodeTar(layout));
  const ours: number[] = [];
  for (let round = 1; round <= rounds; round++) ours.push(await bench.freshPull('many'));
  tell(
    `${entries} entries: pull ${median(ours).toFixed(2)} s, node-tar and mkfs.ext4 ${extraction.toFixed(2)} s`,
  );
  report(`${entries} entries: node-tar + mkfs.ext4, beside a pull`, extraction / median(ours), { least: 15 });
}

/** What pulls cost the engine's other clients: two at once, which is worse than one. */
async function measureOthers(bench: Bench): Promise<void> {
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
  report("longest block of the engine's event loop in two pulls, ms", longestMs, { most: 50 });
  const peak = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1];
  report('peak memory of the engine after all pulls, MB', Number(peak) / 1024, { most: 250 });
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

async function withTools(host: string, name: string): Promise<void> {
  const layout = join(work, 'tools');
  const source = `docker://${host}/${name}:test`;
  await program('skopeo', [
    '--insecure-policy',
    'copy',
    '--src-tls-verify=false',
    source,
    `oci:${layout}:test`,
  ]);
  await program('umoci', ['unpack', '--image', `${layout}:test`, join(work, 'bundle')]);
  await makeFilesystem(join(work, 'bundle/rootfs'));
}

async function withNodeTar(layout: string): Promise<void> {
  const cwd = join(work, 'extracted');
  mkdirSync(cwd);
  for (const blob of layerBlobs(layout)) await extract({ file: blob, cwd, preserveOwner: true });
  await makeFilesystem(cwd);
}

/** What it made goes with the rest: removing it is nobody's time. */
async function makeFilesystem(tree: string): Promise<void> {
  const image = join(work, `${basename(tree)}.ext4`);
  await program('truncate', ['-s', filesystemBytes, image]);
  await program('mkfs.ext4', ['-q', '-F', '-d', tree, image]);
}

/** As fast as Node does it: in large pieces, which is faster than in the default ones. */
async function gunzipLayers(layout: string): Promise<void> {
  for (const blob of layerBlobs(layout)) {
    const input = createReadStream(blob, { highWaterMark: 1 << 20 });
    const output = input.pipe(createGunzip({ chunkSize: 1 << 18 })) as AsyncIterable<Buffer>;
    for await (const chunk of output) if (chunk.length === 0) throw new Error('an empty chunk');
  }
}

function layerBlobs(layout: string): string[] {
  const blob = (digest: string): string => join(layout, 'blobs/sha256', digest.slice('sha256:'.length));
  const parse = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
  const index = parse(join(layout, 'index.json')) as { manifests: { digest: string }[] };
  const manifest = parse(blob(index.manifests[0]!.digest)) as { layers: { digest: string }[] };
  return manifest.layers.map(({ digest }) => blob(digest));
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
