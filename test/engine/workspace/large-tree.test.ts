import { execFileSync } from 'node:child_process';
import { appendFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Operation } from '../../../src/engine/operations.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 120_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** More take minutes: BANGER_TEST_FILES=100000 tries them. */
const count = Number(process.env['BANGER_TEST_FILES'] ?? 10_000);
const nameOf = (index: number): string => `dir-${index % 317}/file-${index}`;

/** Of the whole process: what is known of each file counts, and not what is in it. */
const maxBytes = 128 * 1024 ** 2 + count * 1024;

test('a tree of many files is sent with progress and bounded memory, and again with what changed', async () => {
  const { repo, copy } = fixture;
  const files = Array.from({ length: count }, (_, index) => {
    const content = `content of file ${index}\n`;
    return `M 644 inline ${nameOf(index)}\ndata ${content.length}\n${content}\n`;
  });
  const commit = 'commit refs/heads/main\ncommitter A <a@example.com> 1 +0000\ndata 1\nc\n';
  execFileSync('git', ['fast-import', '--quiet'], { cwd: repo.path, input: commit + files.join('') });
  repo.git('reset', '-q', '--hard');

  const told: number[] = [];
  let total = 0;
  let mostBytes = 0;
  const before = process.memoryUsage.rss();
  const operation: Operation = {
    ...fixture.operation,
    progress: (each) => {
      told.push(each.done ?? 0);
      total = each.total ?? 0;
      if (told.length % 100 === 0) mostBytes = Math.max(mostBytes, process.memoryUsage.rss() - before);
    },
  };
  const prepare = () => fixture.prepare({}, operation);
  expect(await prepare()).toMatchObject({ files: count, warnings: [] });
  expect(told).toEqual(told.toSorted((one, other) => one - other));
  expect(told.at(-1)).toBe(total);
  expect(new Set(told).size).toBeGreaterThan(100);
  expect(mostBytes).toBeLessThan(maxBytes);
  const status = ['status', '--porcelain=v2', '--branch'];
  expect(copy.git(...status)).toBe(repo.git(...status));
  expect(copy.git('ls-files', '-s')).toBe(repo.git('ls-files', '-s'));

  for (let index = 0; index < 10; index++) appendFileSync(join(repo.path, nameOf(index * 997)), 'more\n');
  rmSync(join(repo.path, nameOf(1)));
  expect(await prepare()).toMatchObject({ files: 10, update: { removed: 1, conflicts: [] } });
  expect(copy.git(...status)).toBe(repo.git(...status));
});

test('much that git has to read first is told, before anything is sent', async () => {
  const { repo } = fixture;
  repo.write('small', 'x\n');
  repo.commit('begin');
  repo.write('large', '');
  truncateSync(join(repo.path, 'large'), 70 * 1024 ** 2);
  const details: string[] = [];
  const operation: Operation = {
    ...fixture.operation,
    progress: ({ detail, done }) => void (detail && done === undefined && details.push(detail)),
  };
  await fixture.prepare({ includeUntracked: true }, operation);
  expect(details).toContain('70 MiB that git does not have yet');
});
