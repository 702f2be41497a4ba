import { mkdtempSync, readdirSync, readFileSync, utimesSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { inspectTree } from '../../../src/engine/workspace/host-tree/inspect-tree.ts';
import { buildShipment } from '../../../src/engine/workspace/sending/shipment.ts';
import { createRepo } from '../../support/git-repo.ts';
import { createFixture, hermeticExec, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

test('the tree comes first, its history after', async () => {
  const { repo, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('inner', 'inner\n');
  lib.commit('lib');
  for (const name of ['.a', 'a', 'dir/b', 'z']) repo.write(name, `${name}\n`);
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor/lib');
  repo.commit('first');
  repo.write('z', 'dirty\n');
  const scratch = mkdtempSync(join(directory, 'scratch-'));
  const { signal } = new AbortController();
  const tree = await inspectTree(hermeticExec, {
    path: repo.path,
    scratch,
    includeUntracked: false,
    include: [],
    signal,
  });
  const { entries } = await buildShipment(tree, scratch, { fullHistory: false, token: 'token' });
  const paths = [...entries].map(({ path }) => path);
  const names = ['.a', '.gitmodules', 'a', 'dir/b', 'z'];
  const packs = paths.flatMap((path, at) => (path.startsWith('.git/objects/pack/pack-') ? [at] : []));
  expect(packs).toHaveLength(2);
  for (const name of [...names, 'vendor/lib/inner']) {
    expect(paths).toContain(name);
    expect(paths.indexOf(name), name).toBeLessThan(packs[0]!);
  }
  // Until this is there, it is no repository.
  expect(paths.indexOf('.git/HEAD')).toBeGreaterThan(packs[1]!);
});

test('what the host has packed is not packed again, and the guest gets only objects that it lacks', async () => {
  const { repo, copy, context } = fixture;
  for (let index = 0; index < 20; index++) repo.write(`dir/${index}`, `${index}\n`);
  repo.commit('first');
  repo.git('gc', '-q');
  repo.write('dir/0', 'dirty\n');
  const before = repo.snapshot();
  const ran: string[] = [];
  Object.assign(context, {
    exec: ((argv, options) => {
      ran.push(argv.join(' '));
      return hermeticExec(argv, options);
    }) satisfies typeof hermeticExec,
  });
  const packs = (): string[] =>
    readdirSync(join(copy.path, '.git/objects/pack')).filter((name) => name.endsWith('.idx'));
  await fixture.prepare();
  const first = packs();
  expect(first).toHaveLength(1);

  // Nothing of this is new to the guest but what the index says.
  repo.git('add', 'dir/0');
  utimesSync(join(repo.path, 'dir/1'), 1, 1);
  const staged = repo.snapshot();
  await fixture.prepare();
  expect(copy.git('diff', '--cached', '--name-only')).toBe('dir/0\n');
  expect(packs()).toEqual(first);

  repo.write('dir/1', 'changed\n');
  await fixture.prepare();
  const [second, ...others] = packs().filter((name) => !first.includes(name));
  expect(others).toEqual([]);
  const idx = readFileSync(join(copy.path, '.git/objects/pack', second!));
  const objects = execFileSync('git', ['show-index'], { input: idx }).toString().trim().split('\n');
  // The file and the two directories above it.
  expect(objects).toHaveLength(3);

  expect(ran.filter((line) => line.includes(' pack-objects '))).not.toEqual([]);
  expect(ran.filter((line) => / (?:repack|gc|maintenance|prune|pack-refs)\b/.test(line))).toEqual([]);
  const packed = (files: Record<string, string>): string[] =>
    Object.keys(files).filter((name) => name.includes('/pack/'));
  expect(packed(repo.snapshot())).toEqual(packed(before));
  expect(repo.snapshot()).toEqual(staged);
});
