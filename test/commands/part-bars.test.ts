import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { partLines } from '../../src/commands/part-bars.ts';
import { lineProgress } from '../../src/commands/progress.ts';
import type { ProgressEvent } from '../../src/engine/rpc/messages.ts';

type Part = NonNullable<ProgressEvent['parts']>[number];

const mib = 1024 ** 2;
const parts: Part[] = [
  { name: 'aaaaaaaaaaaa', state: 'cached', done: mib },
  { name: 'bbbbbbbbbbbb', state: 'converting', done: 3 * mib },
  { name: 'cccccccccccc', state: 'downloading', done: 5 * mib, total: 10 * mib },
  { name: 'dddddddddddd', state: 'waiting' },
];

test('each part is a line with its state, what has come, and a bar while the total is known', () => {
  expect(partLines(parts, { columns: 80, rows: 10 })).toEqual([
    '  aaaaaaaaaaaa  already here',
    '  bbbbbbbbbbbb  converting        3 MiB',
    expect.stringMatching(/^ {2}c{12} {2}downloading {3}\[=+> +\] {6}5 MiB of 10 MiB$/),
    '  dddddddddddd  waiting',
  ]);
});

test.each([10, 20, 34, 40, 60, 80, 200])('no line is wider than %i columns', (columns) => {
  for (const line of partLines(parts, { columns, rows: 10 }))
    expect(line.length).toBeLessThanOrEqual(columns);
});

test('without room for a bar there is a percentage', () => {
  expect(partLines(parts, { columns: 40, rows: 10 })[2]).toBe('  cccccccccccc  downloading    50%');
});

test('of more parts than rows, those under way are shown and the others counted', () => {
  const many = [
    ...parts,
    ...Array.from({ length: 100 }, (_, index): Part => ({ name: `w${index}`, state: 'waiting' })),
  ];
  expect(partLines(many, { columns: 80, rows: 5 })).toEqual([
    expect.stringContaining('bbbbbbbbbbbb'),
    expect.stringContaining('cccccccccccc'),
    '  … 1 already here, 101 waiting',
  ]);
  expect(partLines(many, { columns: 80, rows: 1 })).toHaveLength(1);
  expect(partLines(many, { columns: 80, rows: 0 })).toEqual([]);
});

test('a name that would move the cursor is shown, not obeyed', () => {
  const [line] = partLines([{ name: '\x1b[2J', state: 'waiting' }], { columns: 80, rows: 5 });
  expect(line).toBe('  \\x1b[2J  waiting');
});

test('without a terminal each stage and each part that has come is one line, however often progress is told', () => {
  const stream = new PassThrough();
  const view = lineProgress(stream as unknown as NodeJS.WriteStream);
  const stage = 'Downloading layers';
  for (let done = 0; done < 100; done++) {
    view.show({
      stage,
      detail: '0 of 2 layers',
      parts: [{ name: 'a', state: 'downloading', done, total: 100 }],
    });
  }
  const come: Part[] = [
    { name: 'a', state: 'downloaded', done: 2 * mib },
    { name: 'b', state: 'cached', done: 5 },
  ];
  view.show({ stage, detail: '2 of 2 layers', parts: come });
  view.show({ stage: 'Converting layers', parts: come });
  view.show({ stage: 'Converting layers', parts: [{ name: 'a', state: 'done' }] });
  view.show({ stage: 'Publishing image' });
  expect(String(stream.read())).toBe(
    'Downloading layers\na: downloaded, 2 MiB\nb: already here\nConverting layers\nPublishing image\n',
  );
});
