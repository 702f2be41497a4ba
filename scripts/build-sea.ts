/** Bundles the program and injects it, with its assets, into a copy of Node. Called by build-sea.sh. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { Script } from 'node:vm';
import { build, type Plugin } from 'esbuild';
import { assetNames, type AssetName } from '../src/host/assets.ts';
import { attachFiles } from '../src/host/attachments.ts';

const require = createRequire(import.meta.url);
const root = resolve(import.meta.dirname, '..');

/**
 * Scripts that the main one loads when it needs them (`bin/load-part.ts`): each starts faster for having nothing of
 * the other, and has a code cache that running it has made.
 */
const partNames = ['cli', 'engine'] as const;
type PartName = (typeof partNames)[number];

/** Scripts that run in threads of their own (`threadScript` in `src/host/assets.ts`). */
const threadNames = ['conversion'] as const;
type ThreadName = (typeof threadNames)[number];

main(process.argv[2] ?? join(root, '.cache')).catch((error: unknown) => {
  process.stderr.write(`build: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function main(cache: string): Promise<void> {
  const started = performance.now();
  const output = join(root, 'dist/banger');
  const work = join(cache, 'sea');
  mkdirSync(work, { recursive: true });

  const assets = collectAssets(join(cache, 'guest'), join(root, 'dist/assets'));
  const program = await bundleProgram();
  const info = buildInfo(program, assets);

  const stamp = hash([JSON.stringify(info), ...['build-sea.ts', 'code-cache.ts'].map(ownScript)]);
  if (isCurrent(output, join(work, 'stamp'), stamp)) {
    say(`dist/banger is current (${describe(info, output)})`);
    return;
  }
  rmSync(join(work, 'stamp'), { force: true });

  const directory = mkdtempSync(join(work, 'build.'));
  try {
    const executable = join(directory, 'banger');
    copyFileSync(strippedNode(work), executable);
    writeProgram(directory, program, info);
    inject(executable, writeBlob(directory));
    attachFiles(executable, { ...assets, ...scriptPaths(directory) });
    chmodSync(executable, 0o755);
    smokeTest(executable, info.version);
    moveInto(executable, output);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  writeFileSync(join(work, 'stamp'), stampOf(stamp, output));
  say(
    `dist/banger made in ${((performance.now() - started) / 1000).toFixed(1)} s (${describe(info, output)})`,
  );
}

interface BuildInfo {
  readonly version: string;
  readonly commit?: string;
  readonly buildId: string;
}

type AssetPaths = Readonly<Record<AssetName, string>>;

/** Puts everything that gets embedded into `dist/assets`, where a program run from source finds it too. */
function collectAssets(guestDirectory: string, target: string): AssetPaths {
  mkdirSync(target, { recursive: true });
  const addon = join(packageDirectory('better-sqlite3'), 'prebuilds', `linux-${process.arch}.node`);
  const entries = assetNames.map((name) => {
    const source = name === 'better_sqlite3.node' ? addon : join(guestDirectory, name);
    const path = join(target, name);
    copyIfChanged(source, path);
    return [name, path] as const;
  });
  return Object.fromEntries(entries) as AssetPaths;
}

/** Keeps the time of the source: from source, size and time are what an asset is known by. */
function copyIfChanged(source: string, target: string): void {
  const from = statSync(source);
  const to = statSync(target, { throwIfNoEntry: false });
  if (to?.size === from.size && Math.abs(to.mtimeMs - from.mtimeMs) < 2) return;
  const temporary = `${target}.${process.pid}`;
  copyFileSync(source, temporary);
  utimesSync(temporary, from.atime, from.mtime);
  renameSync(temporary, target);
}

interface Program {
  readonly main: string;
  readonly parts: Readonly<Record<PartName, string>>;
  readonly threads: Readonly<Record<ThreadName, string>>;
}

async function bundleProgram(): Promise<Program> {
  const parts = partNames.map(async (name) => {
    const text = await bundle(`bin/${name}.ts`, []);
    return [name, `(function (exports, require, module, __dirname) {${text}})`] as const;
  });
  const threads = threadNames.map(async (name) => [name, await bundle(`bin/${name}.ts`, [])] as const);
  return {
    main: await bundle('bin/banger.ts', [partsApart()]),
    parts: Object.fromEntries(await Promise.all(parts)) as Program['parts'],
    threads: Object.fromEntries(await Promise.all(threads)) as Program['threads'],
  };
}

/** One CommonJS script, in which errors still have their functions' names. */
async function bundle(entry: string, plugins: readonly Plugin[]): Promise<string> {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    mainFields: ['module', 'main'],
    // Read only when run from source.
    define: { 'import.meta.url': '"file:///"', isRelease: 'true' },
    // The parts are plain scripts, in which `import()` does not work and `require` does.
    supported: { 'dynamic-import': false },
    plugins: [withoutAddons(), withoutSubprocesses(), ...plugins],
    logLevel: 'warning',
  });
  return result.outputFiles[0]!.text;
}

/** In the main script, importing a part loads it from the assets. */
function partsApart(): Plugin {
  return {
    name: 'parts-apart',
    setup(context) {
      const part = new RegExp(`^\\./(${partNames.join('|')})\\.ts$`);
      context.onResolve({ filter: part }, ({ path }) => ({ path: basename(path, '.ts'), namespace: 'part' }));
      context.onLoad({ filter: /.*/, namespace: 'part' }, ({ path }) => ({
        contents: `module.exports = require('./load-part.ts').loadPart('${path}');`,
        resolveDir: join(root, 'bin'),
      }));
    },
  };
}

/** Commander can start programs as subcommands. We have none, and the module for it would cost every command 2 ms. */
function withoutSubprocesses(): Plugin {
  return {
    name: 'without-subprocesses',
    setup(context) {
      context.onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
        importer.includes('/node_modules/commander/')
          ? { path: 'child_process', namespace: 'empty' }
          : undefined,
      );
      context.onLoad({ filter: /.*/, namespace: 'empty' }, () => ({ contents: 'module.exports = {};' }));
    },
  };
}

/**
 * Native addons cannot be part of a bundle. ssh2 does without its two (it asks in a `try`),
 * and better-sqlite3 is handed its own as an object, so none of these modules is ever needed.
 */
function withoutAddons(): Plugin {
  return {
    name: 'without-addons',
    setup(context) {
      context.onResolve({ filter: /(^cpu-features$|\.node$)/ }, ({ path }) => ({
        path: basename(path),
        namespace: 'absent',
      }));
      context.onLoad({ filter: /.*/, namespace: 'absent' }, ({ path }) => ({
        contents: `throw Object.assign(new Error('${path} is not part of banger'), { code: 'MODULE_NOT_FOUND' });`,
      }));
    },
  };
}

/** The build id names the program, the assets and Node, not the executable: a code cache never comes out the same twice. */
function buildInfo(program: Program, assets: AssetPaths): BuildInfo {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const parts = assetNames.flatMap((name) => [name, readFileSync(assets[name])]);
  const scripts = [program.main, ...Object.values(program.parts), ...Object.values(program.threads)];
  const buildId = hash([...scripts, process.version, process.arch, ...parts]).slice(0, 16);
  const commit = currentCommit();
  return commit === undefined ? { version, buildId } : { version, commit, buildId };
}

function ownScript(name: string): Buffer {
  return readFileSync(join(import.meta.dirname, name));
}

function currentCommit(): string | undefined {
  const git = spawnSync('git', ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'], {
    cwd: root,
    encoding: 'utf8',
  });
  return git.status === 0 ? git.stdout.trim() : undefined;
}

/** A copy of Node without symbols, 18 MB smaller. Stripping after injection would destroy the result. */
function strippedNode(work: string): string {
  const node = join(packageDirectory(`node-linux-${process.arch}`), 'bin/node');
  const stripped = join(work, `node-${process.version}-stripped`);
  const isNewer = (statSync(stripped, { throwIfNoEntry: false })?.mtimeMs ?? 0) >= statSync(node).mtimeMs;
  if (isNewer) return stripped;

  const temporary = `${stripped}.${process.pid}`;
  const strip = spawnSync('strip', ['-s', node, '-o', temporary], { encoding: 'utf8' });
  if (strip.status !== 0) {
    say('"strip" (package binutils) is not there: the executable gets 18 MB bigger');
    rmSync(temporary, { force: true });
    return node;
  }
  renameSync(temporary, stripped);
  return stripped;
}

/** Writes the scripts, and runs them for their code caches. */
function writeProgram(directory: string, program: Program, info: BuildInfo): void {
  writeFileSync(join(directory, 'build.json'), JSON.stringify(info));
  writeFileSync(join(directory, 'banger.cjs'), program.main);
  for (const name of partNames) writeFileSync(join(directory, `${name}.cjs`), program.parts[name]);
  for (const name of threadNames) writeFileSync(join(directory, `${name}.cjs`), program.threads[name]);
  runNode([join(root, 'scripts/code-cache.ts'), directory]);
  for (const name of partNames) {
    const cachedData = readFileSync(join(directory, `${name}.cache`));
    const script = new Script(program.parts[name], { filename: `${name}.cjs`, cachedData });
    if (script.cachedDataRejected) throw new Error(`V8 does not accept the code cache of "${name}"`);
  }
}

/** What `bin/load-part.ts` reads. */
function scriptPaths(directory: string): Record<string, string> {
  const names = partNames.flatMap((name) => [`${name}.cjs`, `${name}.cache`]);
  return Object.fromEntries(names.map((name) => [name, join(directory, name)]));
}

function writeBlob(directory: string): string {
  const config = join(directory, 'config.json');
  const output = join(directory, 'blob');
  const own = ['build.json', ...threadNames.map((name) => `${name}.cjs`)];
  writeFileSync(
    config,
    JSON.stringify({
      main: join(directory, 'banger.cjs'),
      output,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      useSnapshot: false,
      execArgv: ['--no-warnings'],
      // A NODE_OPTIONS of the user's is meant for their programs and would break this one.
      execArgvExtension: 'none',
      assets: Object.fromEntries(own.map((name) => [name, join(directory, name)])),
    }),
  );
  runNode(['--experimental-sea-config', config]);
  return output;
}

function inject(executable: string, blob: string): void {
  // In two parts, so that the whole string occurs in Node alone.
  const fuse = 'NODE_SEA_' + 'FUSE_fce680ab2cc467b6e072b8b5df1996b2';
  runNode([
    join(packageDirectory('postject'), 'dist/cli.js'),
    executable,
    'NODE_SEA_BLOB',
    blob,
    '--sentinel-fuse',
    fuse,
  ]);
}

/** Shows what the program said only if it fails: postject warns about every symbol that stripping took. */
function runNode(args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`"node ${args.join(' ')}" exited with ${status}\n${stdout}${stderr}`);
}

/** An executable that does not start, or that complains (about its code cache, say), is not delivered. */
function smokeTest(executable: string, version: string): void {
  const { status, signal, stdout, stderr } = spawnSync(executable, ['version'], {
    cwd: '/',
    env: {},
    encoding: 'utf8',
    timeout: 30_000,
  });
  if (status === 0 && stdout.includes(version) && stderr === '') return;
  throw new Error(
    `the new executable fails its first run, "banger version": ${signal ?? `exit code ${status}`}\n${stdout}${stderr}`,
  );
}

function isCurrent(output: string, stampFile: string, stamp: string): boolean {
  if (!existsSync(output) || !existsSync(stampFile)) return false;
  return readFileSync(stampFile, 'utf8') === stampOf(stamp, output);
}

/** With size and time of the executable, so that one from elsewhere is not taken for ours. */
function stampOf(stamp: string, output: string): string {
  const { size, mtimeMs } = statSync(output);
  return `${stamp} ${size} ${mtimeMs}\n`;
}

/** Never writes in place: an engine may be running from the old file. The cache may be on another filesystem. */
function moveInto(source: string, target: string): void {
  const temporary = `${target}.${process.pid}`;
  copyFileSync(source, temporary);
  chmodSync(temporary, 0o755);
  renameSync(temporary, target);
}

function hash(parts: readonly (string | Buffer)[]): string {
  const sum = createHash('sha256');
  for (const part of parts) sum.update(`${Buffer.byteLength(part)}\0`).update(part);
  return sum.digest('hex');
}

function packageDirectory(name: string): string {
  return dirname(require.resolve(`${name}/package.json`));
}

function describe(info: BuildInfo, output: string): string {
  return `version ${info.version}, build ${info.buildId}, ${(statSync(output).size / 1e6).toFixed(1)} MB`;
}

function say(line: string): void {
  process.stdout.write(`build: ${line}\n`);
}
