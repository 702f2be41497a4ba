import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { guestPrograms } from '../../support/guest-programs.ts';
import { makeTempDirectory, viewOf } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

const size = 1.5 * 1024 * 1024;
let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  fixture.repo.write('small', 'one\n');
  fixture.repo.commit('first');
});
afterEach(() => fixture.remove());

/** Git there has all objects, and each is what its name says. */
function expectWhole({ repo, copy }: Fixture): void {
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(copy.git('fsck', '--full', '--strict')).not.toMatch(/missing|corrupt|error/);
  expect(readdirSync(join(copy.path, '.git')).filter((name) => /blobs|coming|going/.test(name))).toEqual([]);
}

test('a large file travels once, whether git has it as committed, staged or changed', async () => {
  const { repo } = fixture;
  for (const name of ['committed', 'dir/changed', 'staged']) repo.write(name, randomBytes(size));
  repo.git('add', 'committed', 'dir/changed');
  repo.git('commit', '-q', '-m', 'large');
  repo.write('dir/changed', randomBytes(size + 1));
  repo.git('add', 'staged');
  expect((await fixture.plan()).bytes).toBeLessThan(4.2 * size);
  // What was committed and is another now is history, which has to travel, too.
  const { bytes } = await fixture.prepare();
  expect(bytes).toBeGreaterThan(4 * size);
  expect(bytes).toBeLessThan(4.2 * size);
  expectWhole(fixture);
});

test.each([
  ['changed', () => undefined],
  ['committed', ({ repo }: Fixture) => repo.git('commit', '-q', '-a', '-m', 'second')],
])('so does one that is %s and sent again', async (_, act) => {
  const { repo } = fixture;
  repo.write('large', randomBytes(size));
  repo.write('other', 'small\n');
  repo.git('add', '-A');
  repo.git('commit', '-q', '-m', 'large');
  await fixture.prepare();
  repo.write('large', randomBytes(size));
  repo.write('other', 'changed\n');
  act(fixture);
  const { bytes } = await fixture.prepare();
  expect(bytes).toBeGreaterThan(size);
  expect(bytes).toBeLessThan(1.2 * size);
  expectWhole(fixture);
});

test('one that git has otherwise than it is travels as both', async () => {
  const { repo } = fixture;
  repo.write('.gitattributes', '*.txt text eol=crlf\n');
  repo.write('large.txt', `${'a line\r\n'.repeat(200_000)}`);
  repo.git('add', '-A');
  repo.write('staged', randomBytes(size));
  repo.git('add', '-A');
  repo.write('staged', randomBytes(size));
  const { bytes } = await fixture.prepare();
  expect(bytes).toBeGreaterThan(2 * size + 1_600_000);
  expectWhole(fixture);
});

test('those of a submodule travel once, too', async () => {
  const { repo, directory, guestPath } = fixture;
  const inner = join(directory, 'inner');
  const git = (...args: string[]): string => repo.git('-c', 'protocol.file.allow=always', ...args);
  execFileSync('git', ['init', '-q', inner]);
  repo.git(
    '-C',
    inner,
    '-c',
    'user.name=a',
    '-c',
    'user.email=a@b',
    'commit',
    '-q',
    '--allow-empty',
    '-m',
    'a',
  );
  git('submodule', 'add', '-q', inner, 'sub');
  repo.git('commit', '-q', '-m', 'sub');
  repo.write('sub/large', randomBytes(size));
  repo.git('-C', 'sub', 'add', 'large');
  const { bytes } = await fixture.prepare();
  expect(bytes).toBeLessThan(1.2 * size);
  expect(repo.git('-C', join(guestPath, 'sub'), 'fsck', '--full')).not.toMatch(/missing|corrupt/);
  expectWhole(fixture);
});

test('a file that the guest has made the same by itself does not travel, and its object does', async () => {
  const { repo, copy } = fixture;
  repo.write('large', randomBytes(size));
  repo.git('add', '-A');
  repo.git('commit', '-q', '-m', 'large');
  await fixture.prepare();
  const now = randomBytes(size);
  repo.write('large', now);
  copy.write('large', now);
  const { files } = await fixture.prepare();
  expect(files).toBe(0);
  expectWhole(fixture);
});

test('a guest of an older build, which cannot make objects, gets them packed', async () => {
  fixture.remove();
  fixture = createFixture({ programs: join(guestPrograms(), 'lib') });
  const { repo } = fixture;
  repo.write('small', 'one\n');
  repo.commit('first');
  for (let round = 1; round <= 2; round++) {
    repo.write('large', randomBytes(size));
    repo.git('add', '-A');
    expect((await fixture.prepare()).bytes).toBeGreaterThan(2 * size);
    expectWhole(fixture);
  }
});

test('an update whose files are taken from the archive takes the objects from where they were made', async () => {
  fixture.remove();
  const own = makeTempDirectory();
  for (const name of ['look', 'blobs', 'lib']) symlinkSync(join(guestPrograms(), name), join(own.path, name));
  // As in a guest whose kernel cannot let files change places.
  writeFileSync(join(own.path, 'place'), '#!/bin/sh\nexit 3\n', { mode: 0o755 });
  fixture = createFixture({ programs: own.path });
  const { repo } = fixture;
  repo.write('small', 'one\n');
  repo.commit('first');
  await fixture.prepare();
  repo.write('large', randomBytes(size));
  repo.write('deep/er', 'x\n');
  repo.git('add', '-A');
  expect((await fixture.prepare()).bytes).toBeLessThan(1.2 * size);
  expectWhole(fixture);
  own.remove();
});
