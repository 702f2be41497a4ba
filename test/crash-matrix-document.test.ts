import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');
const document = readFileSync(join(root, 'docs/crash-matrix.md'), 'utf8');

/** The catalogue of what is made to go wrong: a row here that the document lacks has been forgotten. */
const wanted = [
  ...numbered('F', [1, 22], [24, 24], [26, 29]),
  ...numbered('R', [1, 16]),
  ...numbered('A', [1, 27], [30, 37], [40, 40]),
];

/** Rows that no test can show today; what keeps it from being one is in the row itself. */
const withoutTest = new Set(['R7', 'R11', 'R14']);

const faults = rowsBelow('## Faults, races and attacks').map(
  ([ids = '', done = '', holds = '', tests = '']) => ({
    ids: idsOf(ids),
    done,
    holds,
    tests,
  }),
);

test('every fault, race and attack has one row', () => {
  const ids = faults.flatMap((row) => row.ids);
  expect(wanted.filter((id) => !ids.includes(id))).toEqual([]);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
});

test.each(faults.map((row) => [row.ids.join(', '), row] as const))(
  '%s names tests that exist, or says why not',
  (_, row) => {
    expect(row.done.length).toBeGreaterThan(5);
    expect(row.holds.length).toBeGreaterThan(5);
    if (row.ids.every((id) => withoutTest.has(id))) {
      expect(row.tests).toBe('cannot be one');
      return;
    }
    // Words in code are paths, unless the row is about those of "Every step fails", which names its own.
    expect(quoted(row.tests).length).toBeGreaterThan(0);
  },
);

test('every test that is named is there', () => {
  const named = [...document.matchAll(/`(test\/[^`]+)`/g)].map(([, path = '']) => path);
  expect(named.length).toBeGreaterThan(50);
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  const folders = named.filter((path) => path.endsWith('/'));
  expect(
    folders.filter((path) => !readdirSync(join(root, path)).some((name) => name.endsWith('.test.ts'))),
  ).toEqual([]);
});

test('every point of the tables at which the engine is killed is one of the code', () => {
  const sources = sourceText(join(root, 'src'));
  const points = [...document.matchAll(/^\| `([^`]+)` \| .* \| nothing \|$/gm)].map(
    ([, point = '']) => point,
  );
  expect(points.length).toBeGreaterThan(100);
  const words = new Set(points.map(stageOf));
  const unknown = [...words].filter((word) => !isInSource(word, sources));
  expect(unknown).toEqual([]);
});

function numbered(letter: string, ...ranges: readonly (readonly [number, number])[]): string[] {
  return ranges.flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, index) => `${letter}${from + index}`),
  );
}

/** `F21, F22` and `A1–A10` */
function idsOf(cell: string): string[] {
  return cell.split(', ').flatMap((part) => {
    const [first = '', last = first] = part.split('–');
    return numbered(first.slice(0, 1), [Number(first.slice(1)), Number(last.slice(1))]);
  });
}

function rowsBelow(heading: string): string[][] {
  const lines = document
    .slice(document.indexOf(heading))
    .split('\n')
    .filter((line) => line.startsWith('| '));
  return lines.slice(1).map((line) => line.slice(2, -2).split(' | '));
}

const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);

/** `reconcile.stop/handles written#2:before` is about `handles written` */
function stageOf(point: string): string {
  return point
    .replace(/^[a-z.]+\//, '')
    .replace(/:(before|after|undo)$/, '')
    .replace(/#\d+$/, '');
}

/** Some are put together in the code: `Sending 3 files`, and what a capability has made or removed. */
function isInSource(word: string, sources: string): boolean {
  if (/^Sending \d+ files$/.test(word)) return sources.includes('`Sending ${');
  const capability = /^(\w+) (prepared|removed)$/.exec(word);
  if (capability && sources.includes(`name: '${capability[1]}'`)) return true;
  return sources.includes(`'${word}'`);
}

function sourceText(directory: string): string {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(directory, name), 'utf8'))
    .join('\n');
}
