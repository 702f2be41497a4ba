import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Makes a directory with a mount below a shared one, as nearly all of a host's are under systemd, and says whether that
 * is still there. Takes root; unmounts all of it when disposed of.
 */
export function mountShared(directory: string): Disposable & { readonly isWhole: () => boolean } {
  const above = join(directory, 'shared');
  const below = join(above, 'below');
  mkdirSync(above);
  const mount = (...argv: string[]): Buffer => execFileSync('mount', argv, { stdio: 'pipe' });
  mount('-t', 'tmpfs', 'none', above);
  mount('--make-shared', above);
  mkdirSync(below);
  mount('-t', 'tmpfs', 'none', below);
  const shown = ` ${realpathSync(below)} `;
  return {
    isWhole: () => readFileSync('/proc/self/mountinfo', 'utf8').includes(shown),
    [Symbol.dispose]: () => void execFileSync('umount', ['-R', above], { stdio: 'pipe' }),
  };
}
