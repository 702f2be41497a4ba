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
import { join, resolve } from 'node:path';
import { Script } from 'node:vm';
import { assetNames, type AssetName } from '../src/host/assets.ts';
import { attachFiles } from '../src/host/attachments.ts';
import { bundleProgram, partNames, threadNames, type Program } from './sea/bundle.ts';
import {
  inject,
  leaveEnvFilesAlone,
  packageDirectory,
  runNode,
  smokeTest,
  strippedNode,
  writeBlob,
} from './sea/executable.ts';

const root = resolve(import.meta.dirname, '..');

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

  const stamp = hash([
    JSON.stringify(info),
    ...['build-sea.ts', 'code-cache.ts', 'sea/executable.ts'].map(ownScript),
  ]);
  if (isCurrent(output, join(work, 'stamp'), stamp)) {
    say(`dist/banger is current (${describe(info, output)})`);
    return;
  }
  rmSync(join(work, 'stamp'), { force: true });

  const directory = mkdtempSync(join(work, 'build.'));
  try {
    const executable = join(directory, 'banger');
    copyFileSync(strippedNode(work), executable);
    leaveEnvFilesAlone(executable);
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

/** Writes the scripts, and runs them for their code caches. */
function writeProgram(directory: string, program: Program, info: BuildInfo): void {
  writeFileSync(join(directory, 'build.json'), JSON.stringify(info));
  writeFileSync(join(directory, 'banger.cjs'), program.main);
  for (const name of partNames) {
    // Read as latin1, which is faster. The bundler escapes texts, but cannot do so in regular expressions.
    const [beyond] = /[^\0-\x7f]/.exec(program.parts[name]) ?? [];
    if (beyond !== undefined)
      throw new Error(`"${beyond}" is in a regular expression of "${name}": write it as \\u and four digits`);
    writeFileSync(join(directory, `${name}.cjs`), program.parts[name]);
  }
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

function describe(info: BuildInfo, output: string): string {
  return `version ${info.version}, build ${info.buildId}, ${(statSync(output).size / 1e6).toFixed(1)} MB`;
}

function say(line: string): void {
  process.stdout.write(`build: ${line}\n`);
}
