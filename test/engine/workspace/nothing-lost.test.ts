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
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 60_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

// More of the same: BANGER_TEST_SEEDS=1-50 vitest run --project unit test/engine/workspace/nothing-lost.test.ts
const [first = 1, last = first] = (process.env['BANGER_TEST_SEEDS'] ?? '1').split('-').map(Number);
const seeds = Array.from({ length: last - first + 1 }, (_, index) => first + index);
const stepCount = 12;

test.each(seeds)('whatever both sides do, no line of anybody vanishes unseen (seed %i)', async (seed) => {
  const { repo, copy } = fixture;
  const random = randomOf(seed);
  const write = writer(random);
  repo.write('.gitignore', 'ignored\nbuilt/\n');
  for (const path of ['a', 'd/a', 'd/b', 'd/e/f']) repo.write(path, write.text('host'));
  repo.commit('first');
  await fixture.prepare();
  /** Lines that have been in a tree that was sent: the other side has seen them, and may take them away. */
  const sent = new Set(linesOf(treeOf(repo.path)));
  const did: string[] = [];
  for (let step = 0; step < stepCount; step++) {
    for (const [side, tree] of [['host', repo] as const, ['guest', copy] as const]) {
      for (let count = random(4); count > 0; count--) did.push(`${side}: ${write.edit(tree.path, side)}`);
      if (random(3) === 0) {
        tree.git('add', '-A');
        did.push(`${side}: add`);
        if (side === 'host' && random(2) === 0) {
          tree.git('commit', '-q', '--allow-empty', '-m', `${step}`);
          did.push(`${side}: commit`);
        }
      }
    }
    const before = { host: treeOf(repo.path), guest: treeOf(copy.path) };
    const isApply = random(2) === 0;
    const policy = (['stop', 'keep'] as const)[random(2)]!;
    try {
      if (isApply) await fixture.apply({ markers: random(4) === 0 });
      else await fixture.prepare({ includeUntracked: true, policy });
      did.push(isApply ? 'apply' : `prepare ${policy}`);
      if (!isApply) for (const line of linesOf(before.host)) sent.add(line);
    } catch (error) {
      if (!(error instanceof BangerError) || error.code === 'internal') throw error;
      did.push(`${isApply ? 'apply' : 'prepare'}: ${error.message}`);
      expect({ host: treeOf(repo.path), guest: treeOf(copy.path) }, did.join('\n')).toEqual(before);
    }
    const after = { host: treeOf(repo.path), guest: treeOf(copy.path) };
    // The side that is not written to is as it was.
    expect(isApply ? after.guest : after.host, did.join('\n')).toEqual(isApply ? before.guest : before.host);
    for (const side of ['host', 'guest'] as const) {
      const there = new Set(linesOf(after[side]));
      const lost = linesOf(before[side]).filter((line) => !there.has(line) && !sent.has(line));
      expect(lost, `${side} lost lines\n${did.join('\n')}`).toEqual([]);
    }
  }
});

/** Numbers from 0 to below a limit, the same for the same seed. */
function randomOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

const names = ['a', 'b', 'd', 'd/a', 'd/b', 'd/c', 'd/e', 'd/e/f', 'd/ignored', 'moved', 'built/o', 'n/a'];

function writer(random: (limit: number) => number) {
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
function treeOf(top: string): Record<string, string> {
  const files = readdirSync(top, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name).slice(top.length + 1))
    .filter((name) => !name.startsWith('.git/'));
  return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(top, name), 'utf8')]));
}

function linesOf(tree: Readonly<Record<string, string>>): string[] {
  return Object.values(tree).flatMap((text) => text.split('\n').filter(Boolean));
}
