import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MemoryRest } from '../../src/engine/rest.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test('memory is given back once, when it has been quiet for a while', () => {
  const collect = vi.fn();
  const rest = new MemoryRest(() => true, collect);
  rest.look();
  vi.advanceTimersByTime(4_000);
  rest.look();
  vi.advanceTimersByTime(4_000);
  expect(collect).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1_000);
  expect(collect).toHaveBeenCalledTimes(1);
  // No timer is left: an engine at rest sleeps.
  expect(vi.getTimerCount()).toBe(0);
});

test('nothing is collected under work that has begun meanwhile', () => {
  const collect = vi.fn();
  let isIdle = true;
  const rest = new MemoryRest(() => isIdle, collect);
  rest.look();
  isIdle = false;
  vi.advanceTimersByTime(10_000);
  expect(collect).not.toHaveBeenCalled();
});
