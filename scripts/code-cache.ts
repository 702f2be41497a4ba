/**
 * Runs the parts of the executable, and writes down for each what V8 has compiled until then. Called by
 * build-sea.ts, in a process of its own, with the directory that holds the parts and `build.json`.
 */
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Script } from 'node:vm';
import { admitOptimizer } from '../src/engine/optimizer.ts';
import { assetNames } from '../src/host/assets.ts';
import type * as UndiciSlices from '../src/engine/images/registry/undici-slices.ts';
import { attachFiles, ownExecutable } from '../src/host/attachments.ts';
import { resolveLayout } from '../src/state/layout.ts';

/** What people run all day. Only that: every command pays for the size of the cache. */
const commands = [['version'], ['ps'], ['vm', 'list', '--json']];

const startTimeoutMs = 30_000;

interface Part {
  readonly script: Script;
  readonly exports: Record<string, (...args: unknown[]) => Promise<unknown>>;
}

main(process.argv[2]!, resolve(import.meta.dirname, '../dist/assets')).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});

/** An engine, and then commands that find it: all in this process. */
async function main(directory: string, assets: string): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'banger-build-'));
  process.env['BANGER_HOME'] = home;
  try {
    // There is no executable yet for them to follow.
    writeFileSync(join(directory, 'attached'), '');
    attachFiles(
      join(directory, 'attached'),
      Object.fromEntries(assetNames.map((name) => [name, join(assets, name)])),
    );
    const engine = load('engine', directory);
    const cli = load('cli', directory);
    const running = engine.exports['startEngine']!();
    await Promise.race([running, socketIn(home)]);
    for (const words of commands) await run(cli, words);
    await run(cli, ['engine', 'stop']);
    await running;
    const undici = load('undici', directory);
    const { slices, importParts } = undici.exports as unknown as typeof UndiciSlices;
    for (const slice of [...slices, importParts]) await slice();
    // V8 takes a cache under the flags only that it was made under; the engine has changed some.
    admitOptimizer();
    for (const [name, { script }] of Object.entries({ engine, cli, undici })) {
      writeFileSync(join(directory, `${name}.cache`), script.createCachedData());
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
  process.exit(0);
}

/** As `bin/load-part.ts` does it, except that this process is no single executable. */
function load(name: string, directory: string): Part {
  const sea = {
    isSea: () => true,
    getAsset: (asset: string) => readFileSync(join(directory, asset), 'utf8'),
  };
  const files = join(directory, 'attached');
  const fs = {
    ...process.getBuiltinModule('node:fs'),
    openSync: (path: string, flags: string, mode?: number) =>
      openSync(path === ownExecutable ? files : path, flags, mode),
  };
  const requireBuiltin = (builtin: string): unknown =>
    builtin === 'node:sea' ? sea : builtin === 'node:fs' ? fs : process.getBuiltinModule(builtin);
  const script = new Script(readFileSync(join(directory, `${name}.cjs`), 'latin1'), {
    filename: `${name}.cjs`,
  });
  const module = { exports: {} };
  const body = script.runInThisContext() as (...args: unknown[]) => void;
  body(module.exports, requireBuiltin, module, '/');
  return { script, exports: module.exports };
}

async function socketIn(home: string): Promise<void> {
  const { engineSocket } = resolveLayout({
    env: { BANGER_HOME: home },
    home,
    uid: process.getuid!(),
    temporaryDirectory: tmpdir(),
  });
  const deadline = performance.now() + startTimeoutMs;
  while (!existsSync(engineSocket)) {
    if (performance.now() > deadline) throw new Error(`The engine did not start within ${startTimeoutMs} ms`);
    await sleep(10);
  }
}

async function run(cli: Part, words: readonly string[]): Promise<void> {
  const code = await cli.exports['runCommand']!(words, '__engine');
  if (code !== 0) throw new Error(`"banger ${words.join(' ')}" exited with ${String(code)}`);
}
