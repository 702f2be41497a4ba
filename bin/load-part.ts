import { Script } from 'node:vm';
import { attachmentsOf, ownExecutable } from '../src/host/attachments.ts';

type Main = (exports: object, require: (name: string) => object, module: object, __dirname: string) => void;

/**
 * Runs one of the scripts in the executable and returns what it exports. The build puts this in the place of
 * `import('./cli.ts')` and the like in the main script.
 *
 * Its code cache holds what a run needs, compiled: a single executable's own would hold the outermost functions
 * only. V8 compiles as usual when the cache is not to its liking, which `--jitless` and its kind can bring about.
 */
export function loadPart(name: string): object {
  const attachments = attachmentsOf(ownExecutable);
  // Plain ASCII, as esbuild writes it: nothing to decode.
  const source = attachments.bytes(`${name}.cjs`).toString('latin1');
  const cachedData = attachments.bytes(`${name}.cache`);
  const script = new Script(source, { filename: `${name}.cjs`, cachedData });
  const module = { exports: {} };
  const main = script.runInThisContext() as Main;
  main(module.exports, requireBuiltin, module, '/');
  return module.exports;
}

function requireBuiltin(name: string): object {
  const found = process.getBuiltinModule(name);
  if (found) return found;
  throw Object.assign(new Error(`"${name}" is not part of banger`), { code: 'MODULE_NOT_FOUND' });
}
