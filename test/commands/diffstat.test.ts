import { afterAll, beforeAll, expect, test } from 'vitest';
import { diffstat } from '../../src/commands/diffstat.ts';
import { createRepo, makeTempDirectory, type GitRepo } from '../support/git-repo.ts';

let repo: GitRepo;
const { path, remove } = makeTempDirectory();
afterAll(remove);

const lines = (count: number): string => 'line\n'.repeat(count);
const deep = `${'directory/'.repeat(9)}file-with-a-long-name.txt`;

beforeAll(() => {
  repo = createRepo(path);
  repo.write('binary', Buffer.from([0, 1, 2]));
  repo.write('gone', lines(40));
  repo.write('some', lines(300));
  repo.write('mode', 'x\n');
  repo.commit('first');
  repo.write('binary', Buffer.alloc(1234));
  repo.write(deep, lines(700));
  repo.write('some', `${lines(298)}other\n`);
  repo.write('one', 'x\n');
  repo.git('rm', '-q', 'gone');
  repo.git('update-index', '--chmod=+x', 'mode');
  repo.git('add', '.');
});

/** The same changes as the engine lists them. */
function listed() {
  const numbers = repo.git('diff', '--cached', '--numstat', '--no-renames').trim().split('\n');
  return numbers.map((line) => {
    const [added, removed, name] = line.split('\t');
    const counts =
      added === '-' ? { oldBytes: 3, newBytes: 1234 } : { added: Number(added), removed: Number(removed) };
    return { path: name!, status: 'modified' as const, ...counts };
  });
}

test.each([20, 40, 60, 80, 100, 132, 1000])('in %i columns it is what git prints', (columns) => {
  const printed = repo.git('diff', '--cached', `--stat=${columns}`, '--no-renames');
  expect(`${diffstat(listed(), columns)}\n`).toBe(printed);
});

test('without binary files and large ones, too', () => {
  const few = listed().filter((file) => file.path === 'one' || file.path === 'mode');
  const printed = repo.git('diff', '--cached', '--stat=80', '--', 'one', 'mode');
  expect(`${diffstat(few)}\n`).toBe(printed);
  expect(diffstat([])).toBe('');
});
