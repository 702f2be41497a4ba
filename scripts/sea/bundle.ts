/** Makes the scripts of the executable: one that decides, parts that it loads, and those of threads. */
import { basename, join, relative, resolve } from 'node:path';
import { build, type BuildOptions, type Plugin } from 'esbuild';

const root = resolve(import.meta.dirname, '../..');

/**
 * Scripts that others load when they need them (`bin/load-part.ts`): each starts faster, and stays smaller, for having
 * nothing of the other, and has a code cache that running it has made.
 */
const partEntries = {
  cli: 'bin/cli.ts',
  engine: 'bin/engine.ts',
  undici: 'src/engine/images/registry/undici-slices.ts',
} as const;
type PartName = keyof typeof partEntries;
export const partNames = Object.keys(partEntries) as PartName[];

/** Scripts that run in threads of their own (`threadScript` in `src/host/assets.ts`). */
export const threadNames = ['conversion', 'download'] as const;
type ThreadName = (typeof threadNames)[number];

export interface Program {
  readonly main: string;
  readonly parts: Readonly<Record<PartName, string>>;
  readonly threads: Readonly<Record<ThreadName, string>>;
}

/** Bundles all of it; nothing is written. */
export async function bundleProgram(): Promise<Program> {
  const parts = partNames.map(async (name) => {
    const text = await bundle(partEntries[name]);
    return [name, `(function (exports, require, module, __dirname) {${text}})`] as const;
  });
  const threads = threadNames.map(async (name) => [name, await bundle(`bin/${name}.ts`)] as const);
  return {
    main: await bundle('bin/banger.ts'),
    parts: Object.fromEntries(await Promise.all(parts)) as Program['parts'],
    threads: Object.fromEntries(await Promise.all(threads)) as Program['threads'],
  };
}

/**
 * What Node makes of `bin/banger.ts`, failpoints included, in one file: it starts in a third of the time. Whoever
 * keeps it two levels below the root, as the sources are, has it find the same files.
 */
export async function bundleSource(): Promise<string> {
  const result = await build({
    ...common,
    entryPoints: ['bin/banger.ts'],
    define: { 'import.meta.url': 'ownUrl' },
    banner: { js: "const ownUrl = require('node:url').pathToFileURL(__filename).href;" },
    plugins: [withoutAddons()],
  });
  return result.outputFiles[0]!.text;
}

const common = {
  absWorkingDir: root,
  bundle: true,
  write: false,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  mainFields: ['module', 'main'],
  logLevel: 'warning',
} satisfies BuildOptions;

/** One CommonJS script, in which errors still have their functions' names. */
async function bundle(entry: string): Promise<string> {
  const result = await build({
    ...common,
    entryPoints: [entry],
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    // Read only when run from source.
    define: { 'import.meta.url': '"file:///"', isRelease: 'true', esbuildDetection: 'true' },
    // The parts are plain scripts, in which `import()` does not work and `require` does.
    supported: { 'dynamic-import': false },
    plugins: [withoutAddons(), withoutSubprocesses(), onlySshClient(), partsApart()],
  });
  return result.outputFiles[0]!.text;
}

/** Importing a part loads it from what is attached to the executable. */
function partsApart(): Plugin {
  const byEntry = new Map<string, string>(Object.entries(partEntries).map(([name, entry]) => [entry, name]));
  const filter = new RegExp(
    `/(${[...byEntry.keys()].map((entry) => basename(entry, '.ts')).join('|')})\\.ts$`,
  );
  return {
    name: 'parts-apart',
    setup(context) {
      context.onResolve({ filter }, ({ path, resolveDir, kind }) => {
        const name = byEntry.get(relative(root, resolve(resolveDir, path)));
        return name === undefined || kind === 'entry-point' ? undefined : { path: name, namespace: 'part' };
      });
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

/**
 * Of ssh2 we use the client and its keys. Its server and its agents for HTTP come along otherwise, and with those
 * Node's own HTTP and TLS, a megabyte in every engine.
 */
function onlySshClient(): Plugin {
  return {
    name: 'only-ssh-client',
    setup(context) {
      context.onLoad({ filter: /\/node_modules\/ssh2\/lib\/index\.js$/ }, () => ({
        contents: `const { parseKey } = require('./protocol/keyParser.js');
          module.exports = { Client: require('./client.js'), utils: { parseKey, ...require('./keygen.js') } };`,
      }));
    },
  };
}
