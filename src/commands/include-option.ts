import { resolve } from 'node:path';
import { Option } from 'commander';

/** `--include`, for the commands that send a working tree. */
export function includeOption(): Option {
  return new Option(
    '--include <path>',
    'send this file or directory of the tree too, though it is ignored or untracked, such as .env (repeatable)',
  )
    .argParser((path: string, before: readonly string[]) => [...before, path])
    .default([], 'none');
}

/** Paths that were given with `--include`, which are looked for in the directory that is sent. */
export function includedPaths(cwd: string, tree: string | undefined, paths: readonly string[]): string[] {
  return paths.map((path) => resolve(cwd, tree ?? '.', path));
}
