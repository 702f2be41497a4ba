import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { lines } from './changed-tree.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  for (const name of ['a', 'b']) fixture.repo.write(name, lines([20, name]));
  fixture.repo.write('bin', Buffer.from([0, 1, 2]));
  fixture.repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const here = (name: string): string => readFileSync(join(fixture.repo.path, name), 'utf8');
const there = (name: string): string => readFileSync(join(fixture.copy.path, name), 'utf8');
const apply = async (params: Parameters<Fixture['apply']>[0] = {}): Promise<string[]> =>
  (await fixture.apply(params)).files.map(({ outcome, path }) => `${outcome} ${path}`);
const stopped = (name = 'a'): Promise<void> =>
  expect(fixture.prepare()).rejects.toThrow(`has changes that would be lost: "${name}"`);

const agents = lines([8, 'guest'], [20, 'a']);

test.each<[string, (fixture: Fixture) => void]>([
  [
    'a checkout',
    ({ repo }) => {
      repo.git('checkout', '-q', '--', 'a');
      repo.write('a', lines([1, 'host'], [20, 'a']));
    },
  ],
  [
    'a checkout, in the very next line',
    ({ repo }) => {
      repo.git('checkout', '-q', '--', 'a');
      repo.write('a', lines([7, 'host'], [20, 'a']));
    },
  ],
  [
    'a checkout, after which all is indented anew',
    ({ repo }) => {
      repo.git('checkout', '-q', '--', 'a');
      repo.write('a', here('a').replaceAll(/^/gm, '  '));
    },
  ],
  [
    'a reset to the commit before',
    ({ repo }) => {
      repo.commit('taken over');
      repo.git('reset', '-q', '--hard', 'HEAD~1');
      repo.write('a', lines([1, 'host'], [20, 'a']));
      repo.commit('another');
    },
  ],
  [
    'a reset to another branch that changed the file',
    ({ repo }) => {
      repo.git('stash', '-q');
      repo.git('switch', '-q', '-c', 'upstream');
      repo.write('a', lines([1, 'host'], [20, 'a']));
      repo.commit('upstream');
      repo.git('switch', '-q', '-');
      repo.git('reset', '-q', '--hard', 'upstream');
    },
  ],
])(
  'a change that was thrown away here by %s is applied again, and not replaced in the guest',
  async (_, throwAway) => {
    const { copy } = fixture;
    copy.write('a', agents);
    expect(await apply()).toEqual(['applied a']);
    throwAway(fixture);
    const mine = here('a');
    await stopped();
    expect(await fixture.prepare({ policy: 'keep' })).toMatchObject({ update: { conflicts: ['a'] } });
    expect(there('a')).toBe(agents);
    expect(here('a')).toBe(mine);
    const [said] = await apply({ markers: true });
    expect(['merged a', 'conflict a']).toContain(said);
    expect(here('a')).toContain('guest\n');
  },
);

test('a change that a prepare found thrown away stays so, whatever is edited here later', async () => {
  const { copy, repo } = fixture;
  copy.write('a', agents);
  await fixture.apply();
  repo.git('checkout', '-q', '--', 'a');
  expect(await fixture.prepare({ policy: 'keep' })).toMatchObject({ update: { kept: ['a'] } });
  // The guest's very line.
  repo.write('a', lines([8, 'host'], [20, 'a']));
  expect(await fixture.prepare({ policy: 'keep' })).toMatchObject({ update: { conflicts: ['a'] } });
  await stopped();
  expect(there('a')).toBe(agents);
});

test('what was applied last may be thrown away alone, beside what was applied and committed before', async () => {
  const { copy, repo } = fixture;
  copy.write('a', agents);
  await fixture.apply();
  repo.commit('taken over');
  const more = lines([8, 'guest'], [9, 'more'], [20, 'a']);
  copy.write('a', more);
  await fixture.apply();
  repo.git('checkout', '-q', '--', 'a');
  repo.write('a', lines([1, 'host'], [8, 'guest'], [20, 'a']));
  await stopped();
  expect(await apply()).toEqual(['merged a']);
  expect(here('a')).toBe(lines([1, 'host'], [8, 'guest'], [9, 'more'], [20, 'a']));
  await fixture.prepare();
});

test.each<[string, string]>([
  ['edited', lines([8, 'guest, edited'], [20, 'a'])],
  ['edited elsewhere, too', lines([2, 'host'], [8, 'guest'], [20, 'a'])],
  ['indented anew', agents.replaceAll(/^/gm, '  ')],
  ['written over', lines([8, 'another'], [20, 'a'])],
])('a change that is %s here goes to the guest with the next prepare', async (_, text) => {
  const { copy, repo } = fixture;
  copy.write('a', agents);
  await fixture.apply();
  repo.write('a', text);
  expect(await apply()).toEqual(['present a']);
  await fixture.prepare();
  expect(there('a')).toBe(text);
});

test('lines that the guest added are here as long as half of them are', async () => {
  const { copy, repo } = fixture;
  const [start, end] = [lines([20, 'a']), 'one\n}\ntwo\n'];
  copy.write('a', `${start}${end}`);
  copy.write('b', `${lines([20, 'b'])}${end}`);
  await fixture.apply();
  repo.write('a', `${start}one, edited\n}\ntwo\n`);
  // Another end, of somebody who has not seen the guest's.
  repo.write('b', `${lines([20, 'b'])}three\n}\n`);
  await stopped('b');
  expect(await apply({ markers: true })).toEqual(['present a', 'conflict b']);
  repo.write('b', `${lines([20, 'b'])}three\n}\n`);
  await fixture.prepare();
  expect(there('a')).toBe(here('a'));
  expect(there('b')).toBe(here('b'));
});

test('one line that is in anything does not make what was thrown away and written anew the guest’s', async () => {
  const { copy, repo } = fixture;
  const made = lines([20, 'a']);
  copy.write('a', `${made}def one():\n    first()\n    second()\n    return None\n`);
  await fixture.apply();
  repo.git('checkout', '-q', '--', 'a');
  repo.write('a', `${made}def another():\n    return None\n`);
  await stopped();
});

test('a new file, a binary one and a mode are thrown away by one of another making', async () => {
  const { copy, repo } = fixture;
  copy.write('new', lines());
  copy.write('bin', Buffer.from([0, 9]));
  copy.write('b', lines([20, 'b']), 0o755);
  expect(await apply()).toEqual(['applied b', 'applied bin', 'applied new']);
  rmSync(join(repo.path, 'new'));
  repo.git('checkout', '-q', '--', '.');
  repo.write('new', 'host\n');
  repo.write('bin', Buffer.from([0, 8]));
  repo.write('b', lines([1, 'host'], [20, 'b']));
  repo.git('add', '-A');
  const lost = fixture.prepare();
  await expect(lost).rejects.toThrow('has changes that would be lost: "b", "bin", "new"');
  expect(await apply({ dryRun: true })).toEqual(['merged b', 'conflict bin', 'conflict new']);
});

test('a file that was removed in the guest, and is here again in another form, is removed by nobody unasked', async () => {
  const { copy, repo } = fixture;
  rmSync(join(copy.path, 'a'));
  await fixture.apply();
  repo.git('checkout', '-q', '--', 'a');
  repo.write('a', lines([1, 'host'], [20, 'a']));
  expect(await apply()).toEqual(['conflict a']);
  await stopped();
});
