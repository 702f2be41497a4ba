import { appendFileSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LogKeeper } from '../../src/engine/log-keeper.ts';
import { fakeLog } from '../support/fakes.ts';

let directory: string;
let path: string;
let keeper: LogKeeper;
const { log, lines } = fakeLog();

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-log-'));
  path = join(directory, 'console.log');
  keeper = new LogKeeper({ limitBytes: () => 10, log, lookAfterMs: 1 });
});
afterEach(() => {
  keeper.close();
  rmSync(directory, { recursive: true, force: true });
  expect(lines).toEqual([]);
});

const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
const isCut = () => vi.waitFor(() => expect(statSync(path).size).toBe(0), 30_000);

test('a log that is too long already is cut at once, and again whenever it has grown too long', async () => {
  writeFileSync(path, 'x'.repeat(11));
  keeper.keep(path);
  await isCut();
  for (let round = 0; round < 3; round++) {
    appendFileSync(path, String(round).repeat(11));
    await isCut();
    expect(keeper.shared(path).range).toEqual({ start: 11 * (round + 2) - 10, end: 11 * (round + 2) });
  }
});

test('a log that nobody writes to has no timer', async () => {
  const slow = new LogKeeper({ limitBytes: () => 10, log, lookAfterMs: 60_000 });
  const before = timers();
  const set = vi.spyOn(globalThis, 'setTimeout');
  writeFileSync(path, 'calm');
  slow.keep(path);
  slow.keep(path);
  expect(timers()).toBe(before);
  expect(set).not.toHaveBeenCalled();
  appendFileSync(path, '!');
  await vi.waitFor(() => expect(set.mock.calls.some(([, ms]) => ms === 60_000)).toBe(true), 30_000);
  set.mockRestore();
  slow.close();
});

test('a log that was dropped is left alone', async () => {
  writeFileSync(path, '');
  keeper.keep(path);
  keeper.drop(path);
  const other = join(directory, 'other.log');
  writeFileSync(other, '');
  keeper.keep(other);
  appendFileSync(path, 'x'.repeat(11));
  appendFileSync(other, 'x'.repeat(11));
  await vi.waitFor(() => expect(statSync(other).size).toBe(0), 30_000);
  expect(statSync(path).size).toBe(11);
});

test("a log that is not there is nobody's trouble", () => {
  keeper.keep(path);
  keeper.drop(path);
});
