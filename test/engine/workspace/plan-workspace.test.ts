import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineStream } from '../../../src/engine/rpc/frame-stream.ts';
import { LineReader } from '../../../src/engine/rpc/lines.ts';
import { planWorkspaceRoute } from '../../../src/engine/workspace/plan-workspace.ts';
import { createRepo } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

test('what a dry run lists is what prepare sends then', async () => {
  const { repo, directory } = fixture;
  const lib = createRepo(join(directory, 'lib'));
  lib.write('lib.c', 'int x;\n');
  lib.commit('lib');
  repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor/lib');
  repo.write('.gitignore', '*.log\nbuild/\n.env\n');
  repo.write('a', 'a\n');
  symlinkSync('a', join(repo.path, 'link'));
  repo.commit('first');
  repo.write('a', 'changed\n');
  repo.write('notes', 'untracked\n');
  repo.write('.env', 'SECRET=1\n');
  repo.write('build/out.o', 'o\n');
  repo.write('build/more/out.o', 'oo\n');
  const wanted = { includeUntracked: true, include: [join(repo.path, '.env')] };

  const plan = await fixture.plan(wanted);
  expect(fixture.commands).toEqual([]);
  expect(fixture.stages).toEqual(['Reading working tree']);
  const sent = await fixture.prepare(wanted);
  expect(plan.files.map(({ path, bytes }) => `${path} ${bytes}`).sort()).toEqual(listing(fixture.guestPath));
  expect(plan.files.map(({ path }) => path)).toContain('vendor/lib/lib.c');
  expect(plan).toMatchObject({
    count: sent.files,
    bytes: sent.bytes,
    untracked: 0,
    ignored: 1,
    branch: 'main',
  });
  expect(sent).toMatchObject({ untracked: 0, ignored: 1 });
});

test('the list of a dry run comes in pieces, after what is said of all of it', async () => {
  const { repo, context, operation } = fixture;
  for (let index = 0; index < 1001; index++) repo.write(`dir/${index}`, '');
  repo.commit('first');
  const pieces: Buffer[] = [];
  const stream = {
    send: async (_: string, bytes: Buffer) => void pieces.push(bytes),
  } as unknown as EngineStream;
  const params = { path: repo.path, includeUntracked: false, include: [] };
  await planWorkspaceRoute(context, params, { operation, stream });
  const lines: unknown[] = [];
  const reader = new LineReader();
  for (const piece of pieces) reader.push(piece, (line) => void lines.push(line));
  const { files, ...head } = await fixture.plan();
  expect(lines).toEqual([head, ...files]);
  expect(files).toHaveLength(1001);
});

test('what is named travels though it is ignored, and nothing else does', async () => {
  const { repo, guestPath } = fixture;
  repo.write('.gitignore', '.env\nnode_modules/\n*.log\n');
  repo.write('a', 'a\n');
  repo.commit('first');
  repo.write('.env', 'SECRET=1\n');
  repo.write('node_modules/left/index.js', '1\n');
  repo.write('node_modules/right/index.js', '2\n');
  repo.write('a.log', 'log\n');
  repo.write('odd *name', 'odd\n');
  const include = ['.env', 'node_modules/left', 'odd *name'].map((path) => join(repo.path, path));
  expect(await fixture.prepare({ include })).toMatchObject({ files: 5, untracked: 0, ignored: 2 });
  expect(listing(guestPath).map((line) => line.replace(/ \d+$/, ''))).toEqual([
    '.env',
    '.gitignore',
    'a',
    'node_modules/left/index.js',
    'odd *name',
  ]);
  expect((await fixture.export()).files).toEqual([]);
  writeFileSync(join(guestPath, '.env'), 'SECRET=2\n');
  await fixture.exportAndApply();
  expect(readFileSync(join(repo.path, '.env'), 'utf8')).toBe('SECRET=2\n');
});

test('what cannot be included is refused by name, before a VM is asked for', async () => {
  const { repo, directory } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  writeFileSync(join(directory, 'outside'), '');
  mkdirSync(join(repo.path, 'nested'));
  createRepo(join(repo.path, 'nested')).write('b', 'b\n');
  for (const [path, message] of [
    ['missing', 'There is no'],
    ['../outside', 'is not a file of the tree'],
    ['.git/config', 'is not a file of the tree'],
    ['nested', 'is a repository of its own'],
  ] as const) {
    await expect(fixture.prepare({ include: [join(repo.path, path)] })).rejects.toThrow(message);
  }
  expect(fixture.commands).toEqual([]);
});

/** Path and size of each file outside of `.git`. */
function listing(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.split('/').includes('.git'))
    .flatMap((path) => {
      const stats = lstatSync(join(directory, path));
      if (stats.isSymbolicLink()) return [`${path} 0`];
      return stats.isFile() ? [`${path} ${stats.size}`] : [];
    })
    .sort();
}
