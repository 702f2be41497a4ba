import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { callAfter } from '../../src/host/long-timer.ts';
import { IdleTimer } from '../../src/engine/idle-timer.ts';

const dayMs = 86_400_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test.each([1, 10, 30, 100])('after %i days is then, not before', (days) => {
  const callback = vi.fn();
  callAfter(days * dayMs, callback);
  vi.advanceTimersByTime(days * dayMs - 10);
  expect(callback).not.toHaveBeenCalled();
  vi.advanceTimersByTime(20);
  expect(callback).toHaveBeenCalledTimes(1);
});

test('what is taken back does not happen, however long it has waited', () => {
  const callback = vi.fn();
  const takeBack = callAfter(60 * dayMs, callback);
  vi.advanceTimersByTime(40 * dayMs);
  takeBack();
  vi.advanceTimersByTime(40 * dayMs);
  expect(callback).not.toHaveBeenCalled();
});

test('an engine that may be idle for a month is not gone at once', () => {
  const onIdle = vi.fn();
  new IdleTimer(onIdle).start({ timeoutMs: () => 30 * dayMs, isIdle: () => true });
  vi.advanceTimersByTime(29 * dayMs);
  expect(onIdle).not.toHaveBeenCalled();
  vi.advanceTimersByTime(2 * dayMs);
  expect(onIdle).toHaveBeenCalledTimes(1);
});
