import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Deadline, giveUpAfter, giveUpOnSilence } from '../../src/host/patience.ts';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

/** The process does not run for this long, while the clock does: timers that are due fire late. */
function standStill(ms: number): void {
  const before = performance.now();
  vi.spyOn(performance, 'now').mockImplementationOnce(() => before + ms);
}

test('whoever does not answer in time is given up, once', () => {
  const giveUp = vi.fn();
  giveUpAfter(10_000, giveUp);
  vi.advanceTimersByTime(9_999);
  expect(giveUp).not.toHaveBeenCalled();
  vi.advanceTimersByTime(50_000);
  expect(giveUp).toHaveBeenCalledOnce();
});

test('a timer that fires much too late gives its time again', () => {
  const giveUp = vi.fn();
  const takeBack = giveUpAfter(10_000, giveUp);
  standStill(3_600_000);
  vi.advanceTimersByTime(10_000);
  expect(giveUp).not.toHaveBeenCalled();
  vi.advanceTimersByTime(9_999);
  expect(giveUp).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(giveUp).toHaveBeenCalledOnce();
  takeBack();
});

test('what is taken back is taken back also after time was given again', () => {
  const giveUp = vi.fn();
  const takeBack = giveUpAfter(10_000, giveUp);
  standStill(3_600_000);
  vi.advanceTimersByTime(10_000);
  takeBack();
  vi.advanceTimersByTime(50_000);
  expect(giveUp).not.toHaveBeenCalled();
});

test('whoever is slow is waited for as long as they say something, and not for ever; whoever is silent is not', () => {
  let heard = 0;
  const giveUp = vi.fn();
  giveUpOnSilence(10_000, () => heard, giveUp);
  heard++;
  vi.advanceTimersByTime(19_999);
  expect(giveUp).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(giveUp).toHaveBeenCalledOnce();

  giveUpOnSilence(10_000, () => heard++, giveUp);
  vi.advanceTimersByTime(39_999);
  expect(giveUp).toHaveBeenCalledOnce();
  vi.advanceTimersByTime(1);
  expect(giveUp).toHaveBeenCalledTimes(2);

  const takeBack = giveUpOnSilence(10_000, () => heard++, giveUp);
  vi.advanceTimersByTime(15_000);
  takeBack();
  vi.advanceTimersByTime(90_000);
  expect(giveUp).toHaveBeenCalledTimes(2);
});

test('time in which nobody looked does not count', () => {
  const deadline = new Deadline(10_000);
  const look = (): boolean => (vi.advanceTimersByTime(500), deadline.isOver());
  for (let i = 0; i < 10; i++) expect(look()).toBe(false);
  vi.advanceTimersByTime(86_400_000);
  expect(deadline.isOver()).toBe(false);
  for (let i = 0; i < 9; i++) expect(look()).toBe(false);
  expect(look()).toBe(true);
});
