import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLocks } from '../../../src/engine/locks.ts';
import { guestPrograms } from '../../support/guest-programs.ts';
import { makeTempDirectory, viewOf } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

let fixture: Fixture;
let own: ReturnType<typeof makeTempDirectory>;
/** A script in whose place `place` is run, the next time that it puts files in place: it gets its words */
let next: string;
beforeEach(async () => {
  own = makeTempDirectory();
  next = join(own.path, 'next');
  const place = `${guestPrograms()}/place`;
  const script = `#!/bin/sh
[ "$1" != lock ] || exec ${place} lock
log() { echo "$*" >>${own.path}/log; }
if [ -e ${next} ]; then mv ${next} ${next}.now; . ${next}.now; fi
log began \${5:-first}
${place} "$@"
code=$?
log ended \${5:-first}
exit $code
`;
  writeFileSync(join(own.path, 'place'), script, { mode: 0o755 });
  for (const name of ['look', 'lib']) symlinkSync(join(guestPrograms(), name), join(own.path, name));
  fixture = createFixture({ programs: own.path });
  const { repo } = fixture;
  for (const name of ['a', 'b', 'gone', 'last']) repo.write(name, `${name}\n`);
  repo.commit('first');
  await fixture.prepare();
  for (const name of ['a', 'b', 'last']) repo.write(name, `${name} again\n`);
  repo.git('rm', '-q', 'gone');
  repo.write('new/file', 'new\n');
  repo.git('add', '-A');
});
afterEach(() => {
  fixture.remove();
  own.remove();
});

const there = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');
const log = (): string[] => readFileSync(join(own.path, 'log'), 'utf8').trim().split('\n');
const ofBanger = (): string[] =>
  readdirSync(join(fixture.copy.path, '.git')).filter((name) =>
    /^banger-(?:next|coming|going|list|kept)/.test(name),
  );
const told = async (): Promise<string[]> =>
  (await fixture.apply({ dryRun: true })).files.map(
    ({ outcome, status, path }) => `${outcome} ${status} ${path}`,
  );

/** Sends, and has all of it killed in the guest before anything is put in place, or when all is. */
async function killedIn({ when }: { readonly when: 'before' | 'after' }): Promise<void> {
  const run = when === 'before' ? '' : `${guestPrograms()}/place "$@"\n`;
  writeFileSync(next, `${run}kill -9 $PPID\nexit 1\n`);
  await expect(fixture.prepare()).rejects.toThrow('is partly updated');
}

test('what is edited before an interrupted update is finished stays, and is a change of what was sent before', async () => {
  const { repo, copy } = fixture;
  await killedIn({ when: 'before' });
  copy.write('a', 'a\nguest\n');
  copy.write('gone', 'gone\nguest\n');
  copy.write('new/file', 'guest\n');
  expect(await told()).toEqual(['conflict modified a', 'conflict modified gone', 'conflict added new/file']);
  expect([there('a'), there('gone'), there('new/file')]).toEqual(['a\nguest\n', 'gone\nguest\n', 'guest\n']);
  expect(there('last')).toBe('last again\n');
  await expect(fixture.prepare()).rejects.toThrow('would be lost: "a", "gone", "new/file"');
  // What is the same in both is nobody's change.
  copy.write('a', 'a again\n');
  rmSync(join(copy.path, 'gone'));
  copy.write('new/file', 'new\n');
  await fixture.prepare();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(await told()).toEqual([]);
  expect(ofBanger()).toEqual([]);
});

test('what is edited after all is in place, before that is known, is a change of the new files', async () => {
  const { copy } = fixture;
  await killedIn({ when: 'after' });
  copy.write('a', 'a again\nguest\n');
  copy.write('gone', 'guest\n');
  copy.write('new/file', 'new\nguest\n');
  expect(await told()).toEqual(['applied modified a', 'applied added gone', 'applied modified new/file']);
  expect(there('a')).toBe('a again\nguest\n');
  expect(ofBanger()).toEqual([]);
});

test('an engine that is killed before it has recorded what stayed finds it out again', async () => {
  const { copy, context } = fixture;
  await killedIn({ when: 'before' });
  copy.write('a', 'a\nguest\n');
  const guest = await context.guest({} as never, fixture.operation.signal);
  const dying: typeof guest = {
    ...guest,
    runToolbox: (argv, options) =>
      argv.some((word) => word.includes('write-tree --missing-ok'))
        ? guest.runToolbox(argv, options).then(() => Promise.reject(new Error('the engine is gone')))
        : guest.runToolbox(argv, options),
  };
  await expect(
    fixture.apply({ dryRun: true, context: { ...context, guest: async () => dying } }),
  ).rejects.toThrow('the engine is gone');
  expect(await told()).toEqual(['conflict modified a']);
});

test('what cannot be replaced is named as kept, and is no change of what was sent in its place', async () => {
  const { copy } = fixture;
  // As where something is mounted on it.
  writeFileSync(next, `${guestPrograms()}/place "$@"; echo a >a; printf 'a\\0'; exit 4\n`);
  expect((await fixture.prepare()).update).toMatchObject({ kept: ['a'] });
  expect([there('a'), there('b')]).toEqual(['a\n', 'b again\n']);
  expect(await told()).toEqual([]);
  expect((await fixture.prepare()).update).toMatchObject({ kept: [] });
  expect(there('a')).toBe('a again\n');
  expect(copy.git('status', '--porcelain')).toBe(fixture.repo.git('status', '--porcelain'));
  expect(ofBanger()).toEqual([]);
});

test('whoever finishes an update waits for the one that is still at it, whose engine is gone', async () => {
  const { repo, copy, context } = fixture;
  const [begun, go] = [join(own.path, 'begun'), join(own.path, 'go')];
  writeFileSync(next, `touch ${begun}\nwhile [ ! -e ${go} ]; do sleep 0.02; done\n`);
  const guest = await context.guest({} as never, fixture.operation.signal);
  const first = fixture.prepare();
  while (!existsSync(begun)) await sleep(10);
  let isWaiting = false;
  const waiting: typeof guest = {
    ...guest,
    runToolbox: (argv, options) => {
      isWaiting ||= argv.some((word) => word.includes('place lock'));
      return guest.runToolbox(argv, options);
    },
  };
  // As an engine that was started again: it knows nothing of the first.
  const again = { ...context, locks: createLocks(), guest: async () => waiting };
  const second = fixture.apply({ dryRun: true, context: again });
  while (!isWaiting) await sleep(10);
  // Long enough for one that does not wait.
  await sleep(500);
  writeFileSync(go, '');
  expect(await second).toMatchObject({ files: [] });
  await first;
  expect(log()).toEqual(['began first', 'ended first']);
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(ofBanger()).toEqual([]);
});
