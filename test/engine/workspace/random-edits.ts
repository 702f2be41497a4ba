import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Numbers from 0 to below a limit, the same for the same seed. */
export function randomOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const names = ['a', 'b', 'd', 'd/a', 'd/b', 'd/c', 'd/e', 'd/e/f', 'd/ignored', 'moved', 'built/o', 'n/a'];

export function writer(random: (limit: number) => number) {
  let count = 0;
  const line = (side: string): string => `${side} ${++count} ${'x'.repeat(20)}\n`;
  const text = (side: string): string => Array.from({ length: 5 }, () => line(side)).join('');
  const kind = (path: string): 'file' | 'directory' | undefined => {
    // Below a file there is nothing.
    if (!existsSync(path)) return undefined;
    return statSync(path).isDirectory() ? 'directory' : 'file';
  };
  /** Makes the directories of a path, in place of files. */
  const makeWay = (top: string, name: string): void => {
    const parts = name.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) {
      const parent = join(top, ...parts.slice(0, depth));
      if (kind(parent) === 'file') rmSync(parent);
    }
    mkdirSync(dirname(join(top, name)), { recursive: true });
  };
  const edit = (top: string, side: string): string => {
    const name = names[random(names.length)]!;
    const path = join(top, name);
    const what = kind(path);
    const act = random(6);
    if (act === 0 && what !== undefined) {
      rmSync(path, { recursive: true });
      return `remove ${name}`;
    }
    if (act === 1 && what !== undefined) {
      const target = names[random(names.length)]!;
      if (kind(join(top, target)) !== undefined || target.startsWith(`${name}/`)) return 'nothing';
      makeWay(top, target);
      if (kind(path) === undefined) return `make way for ${target}`;
      renameSync(path, join(top, target));
      return `move ${name} to ${target}`;
    }
    if (act <= 3 && what === 'file') {
      const lines = readFileSync(path, 'utf8').split(/(?<=\n)/);
      lines[random(lines.length)] = line(side);
      writeFileSync(path, lines.join(''));
      return `edit ${name}`;
    }
    makeWay(top, name);
    rmSync(path, { recursive: true, force: true });
    writeFileSync(path, text(side));
    return `write ${name}`;
  };
  return { text, edit };
}

/** What is in each file, but for the repository's own. */
export function treeOf(top: string): Record<string, string> {
  const files = readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name).slice(top.length + 1))
    .filter((name) => !name.startsWith('.git/'));
  return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(top, name), 'latin1')]));
}

export function linesOf(tree: Readonly<Record<string, string>>): string[] {
  return Object.values(tree).flatMap((text) => text.split('\n').filter(Boolean));
}
