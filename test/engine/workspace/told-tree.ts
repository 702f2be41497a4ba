import {
  cpSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { makeTempDirectory } from '../../support/git-repo.ts';
import { createFixture, type Exported, type Fixture } from './workspace-fixture.ts';

/** A tree that was sent, whose guest tells what git is asked there. */
export interface ToldTree extends Fixture {
  /** A shell script that is run before each git of the guest */
  readonly onGit: string;
  /** A directory beside the workspace, with an older copy of one of its own */
  readonly outside: string;
  /** Where a file of the guest's is */
  at(path: string): string;
  /** Writes a file of the guest's anew, with the time that it had */
  inPlace(path: string, content: string, seconds?: number): void;
  /** Exports twice, as it comes and by git alone: both see the same. `byLook`: git did not look at all of the tree. */
  exportBothWays(): Promise<{ readonly byLook: boolean; readonly exported: Exported }>;
  /** Sends a tree with all kinds of files, and once more, by which the mark moves on */
  sendTree(): Promise<void>;
}

export function createToldTree(): ToldTree {
  const programs = makeTempDirectory();
  const onGit = join(programs.path, 'on-git');
  writeFileSync(onGit, '');
  const asked = join(programs.path, 'asked');
  const script = `#!/bin/sh\necho "$*" >>${asked}\n. ${onGit}\nPATH=\${PATH#*:} exec git "$@"\n`;
  writeFileSync(join(programs.path, 'git'), script, { mode: 0o755 });
  const fixture = createFixture({ env: { PATH: `${programs.path}:${process.env['PATH']!}` } });
  const { repo, copy } = fixture;
  const outside = join(fixture.directory, 'outside');
  const at = (path: string): string => join(copy.path, path);
  return {
    ...fixture,
    onGit,
    outside,
    at,
    inPlace(path, content, seconds) {
      const { atime, mtime } = statSync(at(path));
      writeFileSync(at(path), content);
      utimesSync(at(path), atime, seconds ?? mtime);
    },
    async exportBothWays() {
      writeFileSync(asked, '');
      const exported = await fixture.export();
      const byLook = !/ add -A| read-tree/.test(readFileSync(asked, 'utf8'));
      const mark = at('.git/banger-quiet');
      if (existsSync(mark)) renameSync(mark, `${mark}-away`);
      rmSync(at('.git/banger-known-paths'), { force: true });
      expect(await fixture.export()).toEqual(exported);
      if (existsSync(`${mark}-away`)) renameSync(`${mark}-away`, mark);
      return { byLook, exported };
    },
    async sendTree() {
      repo.write('.gitignore', '*.log\nbuilt/\n');
      for (const name of ['one', 'two', 'dir/two', 'dir/deep/three', 'dir/deep/er/four'])
        repo.write(name, `${name}\n`);
      repo.write('run', '#!/bin/sh\n', 0o755);
      repo.write('kept.log', 'sent though ignored\n');
      symlinkSync('one', join(repo.path, 'link'));
      repo.git('add', '-f', '.');
      repo.commit('first');
      await fixture.prepare();
      cpSync(at('dir'), outside, { recursive: true });
      writeFileSync(join(outside, 'deep/three'), 'dir/deep/OLDER\n');
      copy.write('dir/made.log', 'x\n');
      copy.write('dir/old.log/deep/three', 'old\n');
      copy.write('built/deep/out', 'x\n');
      // Git finds nothing, and the update moves the mark on.
      repo.write('two', 'changed\n');
      await fixture.prepare();
    },
    remove() {
      fixture.remove();
      programs.remove();
    },
  };
}

export const exportedPaths = ({ files }: Exported): string[] =>
  files.map(({ status, path }) => `${status} ${path}`);
