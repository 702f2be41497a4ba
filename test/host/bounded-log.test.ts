import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { BoundedLog } from '../../src/host/bounded-log.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-log-'));
  path = join(directory, 'console.log');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const all = (log: BoundedLog): string => log.between(log.range.start, log.range.end).toString();

test('a log within its limit stays; a longer one is emptied and its end kept', async () => {
  const log = new BoundedLog(path);
  expect(await log.cut(10)).toBe(false);
  writeFileSync(path, '0123456789');
  expect(await log.cut(10)).toBe(false);
  appendFileSync(path, 'abc');
  expect(await log.cut(10)).toBe(true);
  expect(statSync(path).size).toBe(0);
  expect(readFileSync(`${path}.1`, 'utf8')).toBe('3456789abc');
  expect(statSync(`${path}.1`).mode & 0o777).toBe(0o600);
});

test('a reader keeps its place over a cut, and reads the rest of what was cut off', async () => {
  const log = new BoundedLog(path);
  writeFileSync(path, 'one two three ');
  const read = log.read(log.range.start, 4);
  expect(read.content.toString()).toBe('one ');
  await log.cut(13);
  appendFileSync(path, 'four');
  const rest = log.read(read.next);
  expect(rest.content.toString()).toBe('two three ');
  expect(log.read(rest.next).content.toString()).toBe('four');
});

test('a reader that is too slow goes on with what is left', async () => {
  const log = new BoundedLog(path);
  for (const text of ['aaaa', 'bbbb', 'cccc']) {
    appendFileSync(path, text);
    await log.cut(2);
  }
  appendFileSync(path, 'dd');
  expect(log.read(0).content.toString()).toBe('cc');
  expect(log.range).toEqual({ start: 10, end: 14 });
});

test('who opens a log that was cut before reads both parts; the last lines may lie in both', async () => {
  writeFileSync(path, '1\n2\n3\n');
  await new BoundedLog(path).cut(5);
  appendFileSync(path, '4\n5');
  const log = new BoundedLog(path);
  expect(all(log)).toBe('\n2\n3\n4\n5');
  const last = (count: number) => log.between(log.lastLines(count), log.range.end).toString();
  expect([0, 1, 2, 3, 99].map(last)).toEqual(['', '5', '4\n5', '3\n4\n5', '\n2\n3\n4\n5']);
  expect(log.tail(4).toString()).toBe('\n4\n5');
});

test('the last lines are found in a log of many pieces', () => {
  const lines = Array.from({ length: 50_000 }, (_, index) => `line ${index}\n`);
  writeFileSync(path, lines.join(''));
  const log = new BoundedLog(path);
  expect(log.between(log.lastLines(20_000), log.range.end).toString()).toBe(lines.slice(-20_000).join(''));
});

test('when the end cannot be kept, the log is emptied all the same, and nobody loses their place', async () => {
  writeFileSync(path, 'abcdef');
  mkdirSync(`${path}.1.tmp`);
  const log = new BoundedLog(path);
  await expect(log.cut(3)).rejects.toThrow('EISDIR');
  expect(statSync(path).size).toBe(0);
  expect(existsSync(`${path}.1`)).toBe(false);
  appendFileSync(path, 'gh');
  expect(log.read(6).content.toString()).toBe('gh');
});

test('a writer that goes on where it was leaves a hole, which is no part of its log', async () => {
  const log = new BoundedLog(path, { mayHaveHole: true });
  const writer = openSync(path, 'w');
  onTestFinished(() => closeSync(writer));
  const write = (text: string): void => void writeSync(writer, text);
  write('a'.repeat(100_000));
  for (const text of ['one\n', 'two\n', 'three\n']) {
    expect(await log.cut(3)).toBe(true);
    expect(log.range.end - log.range.start).toBe(3);
    write(text);
    expect(statSync(path).size).toBeGreaterThan(100_000);
    expect(log.read(log.range.end - text.length).content.toString()).toBe(text);
  }
  expect(all(log)).toBe('wo\nthree\n');
  expect(log.range.end).toBe(100_000 + 'one\ntwo\nthree\n'.length);
  // What is left and no more is what counts, also for who did not cut it.
  const other = new BoundedLog(path, { mayHaveHole: true });
  expect(await other.cut(6)).toBe(false);
  expect(other.between(other.lastLines(2), other.range.end).toString()).toBe('wo\nthree\n');
});
