import { chmodSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { GitRepo } from '../../support/git-repo.ts';

/** Commits files of all kinds. */
export function fill(repo: GitRepo): void {
  for (const name of ['edited', 'gone/deep/file', 'becomes-dir', 'becomes-file/inner', 'script', 'to-link'])
    repo.write(name, `${name}\n`);
  chmodSync(join(repo.path, 'script'), 0o750);
  chmodSync(join(repo.path, 'edited'), 0o664);
  symlinkSync('edited', join(repo.path, 'link'));
  repo.commit('first');
}

/** Every kind of change: files that come, go and change, and become something else. */
export function changeAll(copy: GitRepo): void {
  copy.write('edited', 'guest\n');
  copy.write('script', 'guest\n');
  rmSync(join(copy.path, 'gone'), { recursive: true });
  for (const name of ['becomes-dir', 'becomes-file', 'to-link', 'link'])
    rmSync(join(copy.path, name), { recursive: true });
  copy.write('becomes-dir/inner', 'guest\n');
  copy.write('becomes-file', 'guest\n');
  symlinkSync('edited', join(copy.path, 'to-link'));
  symlinkSync('script', join(copy.path, 'link'));
  copy.write('new/deep/file', 'guest\n', 0o755);
}

/** Twenty lines, some of which are others. */
export function lines(...changed: [number, string][]): string {
  const all = Array.from({ length: 20 }, (_, index) => `line ${index + 1}`);
  for (const [number, text] of changed) all[number - 1] = text;
  return `${all.join('\n')}\n`;
}
