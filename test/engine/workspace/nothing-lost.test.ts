import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { linesOf, randomOf, treeOf, writer } from './random-edits.ts';
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
