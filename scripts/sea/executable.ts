/** Turns a copy of Node and scripts into one executable. */
import { spawnSync } from 'node:child_process';
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { threadNames } from './bundle.ts';

const require = createRequire(import.meta.url);

/** A copy of Node without symbols, 18 MB smaller. Stripping after injection would destroy the result. */
export function strippedNode(work: string): string {
  const node = join(packageDirectory(`node-linux-${process.arch}`), 'bin/node');
  const stripped = join(work, `node-${process.version}-stripped`);
  const isNewer = (statSync(stripped, { throwIfNoEntry: false })?.mtimeMs ?? 0) >= statSync(node).mtimeMs;
  if (isNewer) return stripped;

  const temporary = `${stripped}.${process.pid}`;
  const strip = spawnSync('strip', ['-s', node, '-o', temporary], { encoding: 'utf8' });
  if (strip.status !== 0) {
    process.stdout.write(
      'build: "strip" (package binutils) is not there: the executable gets 18 MB bigger\n',
    );
    rmSync(temporary, { force: true });
    return node;
  }
  renameSync(temporary, stripped);
  return stripped;
}

/**
 * Node looks for `--env-file` among all arguments before it runs a script, also those of a single executable: it ends the
 * program when there is no such file, even one that is meant for a command in a guest. It has no switch for that, so the
 * words it looks for become ones that nobody types. See https://github.com/nodejs/node/issues/54232.
 */
export function leaveEnvFilesAlone(executable: string): void {
  const words = ['--env-file', '--env-file=', '--env-file-if-exists', '--env-file-if-exists='];
  const bytes = readFileSync(executable);
  const known = Buffer.from(words.map((word) => `${word}\0`).join(''), 'latin1');
  const at = bytes.indexOf(known);
  if (at < 0 || bytes.includes(known, at + 1)) {
    process.stdout.write(
      'build: this Node reads --env-file itself, and is left to: where it looks is not known\n',
    );
    return;
  }
  bytes.write(known.toString('latin1').replaceAll('--', '\x01\x01'), at, 'latin1');
  writeFileSync(executable, bytes);
}

/** Writes Node's single-executable blob from the scripts in the directory, and returns its path. */
export function writeBlob(directory: string): string {
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

/** Puts a blob into a copy of Node. */
export function inject(executable: string, blob: string): void {
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
export function runNode(args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`"node ${args.join(' ')}" exited with ${status}\n${stdout}${stderr}`);
}

/** An executable that does not start, or that complains (about its code cache, say), is not delivered. */
export function smokeTest(executable: string, version: string): void {
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

export function packageDirectory(name: string): string {
  return dirname(require.resolve(`${name}/package.json`));
}
