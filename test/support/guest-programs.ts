import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';

let directory: string | undefined;

/** A directory with programs of ours that guests have in /run/banger/bin, compiled once for the process, as the build does it. */
export function guestPrograms(): string {
  if (directory === undefined) {
    const made = mkdtempSync('/tmp/banger-programs-');
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    const options = ['-Wall', '-Werror', '-nostdlib', '-static'];
    for (const name of ['look', 'place', 'blobs'])
      execFileSync('tcc', [...options, '-o', join(made, name), `guest/${name}.c`], { stdio: 'inherit' });
    cpSync('guest/gitconfig', join(made, 'lib/git/config'));
    directory = made;
  }
  return directory;
}
