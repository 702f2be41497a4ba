import { posix, resolve } from 'node:path';
import { UsageError } from '../usage-error.ts';

/** One of the two ends of a copy, as it was typed. */
export type CopyPlace =
  | { readonly kind: 'stream' }
  | { readonly kind: 'local'; readonly typed: string; readonly path: string; readonly ending: Ending }
  | {
      readonly kind: 'guest';
      readonly typed: string;
      readonly vm: string;
      readonly path: string;
      readonly ending: Ending;
    };

/** How a path ends: `/` says that it must be a directory, `/.` that its content is meant. */
export type Ending = 'plain' | 'slash' | 'content';

/**
 * Reads `VM:PATH`, a local path, or `-`, by docker's rules: what has a slash before its first colon, or begins with a
 * dot, is local. Guest paths count from `/`, whether they begin with it or not; `~` is root's home.
 */
export function parseCopyPlace(typed: string, cwd: string): CopyPlace {
  if (typed === '-') return { kind: 'stream' };
  if (typed === '') throw new UsageError('A path is empty', 'Give VM:PATH, a path of this host, or -');
  const colon = typed.indexOf(':');
  const before = typed.slice(0, Math.max(colon, 0));
  if (colon < 1 || before.includes('/') || before.startsWith('.'))
    return { kind: 'local', typed, path: resolve(cwd, typed), ending: endingOf(typed) };
  const path = typed.slice(colon + 1);
  if (path === '')
    throw new UsageError(`"${typed}" has no path`, `Give one, such as ${before}:/root or ${before}:/`);
  const fromRoot = posix.join('/', path.replace(/^~(?=\/|$)/, '/root'));
  const normal = fromRoot === '/' ? '/' : fromRoot.replace(/\/+$/, '');
  return { kind: 'guest', typed, vm: before, path: normal, ending: endingOf(path) };
}

function endingOf(path: string): Ending {
  if (/(?:^|\/)\.$/.test(path)) return 'content';
  return path.endsWith('/') ? 'slash' : 'plain';
}
