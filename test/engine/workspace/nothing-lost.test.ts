import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { linesOf, randomOf, treeOf, writer } from './random-edits.ts';
import type { GitRepo } from '../../support/git-repo.ts';
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

/** Lines of a file with numbers, of which the guest changes even ones, and adds to them, and the host odd ones. */
const numbered = Array.from({ length: 14 }, (_, index) => `${index + 1} as it was\n`).join('');

function editNumbered(random: (limit: number) => number): (tree: GitRepo, side: 'host' | 'guest') => string {
  let count = 0;
  return (tree, side) => {
    const name = ['a', 'd/b'][random(2)]!;
    const all = readFileSync(join(tree.path, name), 'utf8').split(/(?<=\n)/);
    const number = 2 * random(7) + (side === 'guest' ? 2 : 1);
    const at = all.findIndex((line) => line.startsWith(`${number} `));
    const isNew = random(3) === 0;
    all.splice(at + Number(isNew), isNew ? 0 : 1, `${number}${isNew ? '+' : ''} ${side} ${++count}\n`);
    tree.write(name, all.join(''));
    return `${side}: ${isNew ? 'add to' : 'edit'} ${number} of ${name}`;
  };
}

/** Between markers there is what the guest has of its lines, and the host of its own. */
function resolveNumbered(text: string): string {
  const numberOf = (line: string): number => Number.parseInt(line);
  return text.replaceAll(/^<{7} .*\n([^]*?)^={7}\n([^]*?)^>{7} .*\n/gm, (_, here: string, there: string) =>
    [
      ...here.split(/(?<=\n)/).filter((line) => numberOf(line) % 2 === 1),
      ...there.split(/(?<=\n)/).filter((line) => numberOf(line) % 2 === 0),
    ]
      .sort((one, other) => numberOf(one) - numberOf(other))
      .join(''),
  );
}

test.each(seeds)('whatever both sides do, no line of anybody vanishes unseen (seed %i)', async (seed) => {
  const { repo, copy } = fixture;
  const random = randomOf(seed);
  const write = writer(random);
  repo.write('.gitignore', 'ignored\nbuilt/\n');
  for (const path of ['a', 'd/a', 'd/b', 'd/e/f']) repo.write(path, write.text('host'));
  repo.commit('first');
  await fixture.prepare();
  /** Lines that both sides have seen, since they were sent or applied: each may take them away. */
  const seen = new Set(linesOf(treeOf(repo.path)));
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
      if (isApply) {
        const { files, isApplied } = await fixture.apply({ markers: random(4) === 0 });
        did.push(`apply: ${files.map(({ outcome, path }) => `${outcome} ${path}`).join(', ')}`);
        const taken = files.filter(({ outcome, isWritten }) => outcome !== 'conflict' || isWritten);
        for (const { path } of isApplied ? taken : [])
          for (const line of linesOf({ [path]: before.guest[path] ?? '' })) seen.add(line);
      } else {
        await fixture.prepare({ includeUntracked: true, policy });
        did.push(`prepare ${policy}`);
        for (const line of linesOf(before.host)) seen.add(line);
      }
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
      const lost = linesOf(before[side]).filter((line) => !there.has(line) && !seen.has(line));
      expect(lost, `${side} lost lines\n${did.join('\n')}`).toEqual([]);
    }
  }
});

test.each(seeds)(
  'while nobody changes anything here, each apply makes the tree what it is in the guest (seed %i)',
  async (seed) => {
    const { repo, copy } = fixture;
    const random = randomOf(seed);
    const write = writer(random);
    for (const path of ['a', 'd/a', 'd/b', 'd/e/f']) repo.write(path, write.text('host'));
    repo.commit('first');
    await fixture.prepare();
    const did: string[] = [];
    for (let step = 0; step < stepCount / 2; step++) {
      for (let count = random(6); count > 0; count--) did.push(write.edit(copy.path, 'guest'));
      // Back to what was sent, or to what was committed since.
      if (random(3) === 0) did.push(`checkout: ${copy.git('checkout', '-q', '.')}`);
      if (random(3) === 0)
        did.push(`commit: ${copy.git('add', '-A')}${copy.git('commit', '-q', '--allow-empty', '-m', 'x')}`);
      const { files } = await fixture.apply();
      did.push(`apply: ${files.map(({ outcome, path }) => `${outcome} ${path}`).join(', ')}`);
      expect(files.filter(({ outcome }) => outcome === 'conflict').length, did.join('\n')).toBe(0);
      expect(treeOf(repo.path), did.join('\n')).toEqual(treeOf(copy.path));
    }
  },
);

test.each(seeds)(
  'what was applied and then thrown away here is not lost in the guest, whatever is edited in other lines (seed %i)',
  async (seed) => {
    const { repo, copy } = fixture;
    const random = randomOf(seed);
    const edit = editNumbered(random);
    for (const name of ['a', 'd/b']) repo.write(name, numbered);
    repo.commit('first');
    await fixture.prepare();
    /** Lines that were sent, or told as in conflict: to throw those away is the host's business. */
    const sent = new Set(linesOf(treeOf(repo.path)));
    const did: string[] = [];
    let [isThrownAway, isNew] = [false, false];
    const told = `seed ${seed}\n`;
    for (let step = 0; step < stepCount; step++) {
      for (let count = random(3); count > 0; count--) {
        did.push(edit(copy, 'guest'));
        isNew = true;
      }
      for (let count = random(3); count > 0; count--) did.push(edit(repo, 'host'));
      if (random(4) === 0) did.push(`guest: commit${copy.git('commit', '-qa', '--allow-empty', '-m', 'x')}`);
      const act = random(6);
      if (act === 0 || act === 1)
        did.push(`commit${repo.git('commit', '-qa', '--allow-empty', '-m', `${step}`)}`);
      if (act === 2 || act === 3) {
        const isReset = act === 3 && Number(repo.git('rev-list', '--count', 'HEAD')) > 1;
        did.push(
          isReset
            ? `reset${repo.git('reset', '-q', '--hard', 'HEAD~1')}`
            : `checkout${repo.git('checkout', '-q', '.')}`,
        );
        isThrownAway = true;
        did.push(edit(repo, 'host'));
      }
      const before = { host: treeOf(repo.path), guest: treeOf(copy.path) };
      if (random(2) === 0) {
        const { files } = await fixture.apply({ markers: true });
        did.push(`apply: ${files.map(({ outcome, path }) => `${outcome} ${path}`).join(', ')}`);
        for (const [name, text] of Object.entries(treeOf(repo.path))) repo.write(name, resolveNumbered(text));
        // Told as a conflict: to leave out what the guest added is one way to resolve it.
        for (const { path, outcome } of files)
          if (outcome === 'conflict')
            for (const line of linesOf({ [path]: before.guest[path]! }))
              if (/^\d+\+/.test(line)) sent.add(line);
        const now = linesOf(treeOf(repo.path));
        const wanted = [
          ...linesOf(before.host).filter((line) => /host/.test(line)),
          ...linesOf(before.guest).filter((line) => /guest/.test(line) && !sent.has(line)),
        ];
        expect(
          wanted.filter((line) => !now.includes(line)),
          told + did.join('\n'),
        ).toEqual([]);
        expect(treeOf(copy.path)).toEqual(before.guest);
        [isThrownAway, isNew] = [false, false];
      } else {
        const policy = (['stop', 'keep'] as const)[random(2)]!;
        const stopped = await fixture.prepare({ policy }).then(
          ({ update }) => update!.conflicts,
          () => Object.keys(before.host),
        );
        did.push(`prepare ${policy}: ${stopped.join()}`);
        if (!isThrownAway && !isNew) expect(stopped, told + did.join('\n')).toEqual([]);
        expect(treeOf(repo.path)).toEqual(before.host);
        const there = new Set(linesOf(treeOf(copy.path)));
        const lost = linesOf(before.guest).filter(
          (line) => /guest/.test(line) && !there.has(line) && !sent.has(line),
        );
        expect(lost, told + did.join('\n')).toEqual([]);
        for (const [name, text] of Object.entries(before.host))
          if (!stopped.includes(name)) for (const line of linesOf({ [name]: text })) sent.add(line);
      }
    }
  },
);
