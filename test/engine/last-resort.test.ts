import { EventEmitter } from 'node:events';
import { afterEach, expect, test, vi } from 'vitest';
import { leaveOnBugs } from '../../src/engine/last-resort.ts';

afterEach(() => vi.useRealTimers());

test('what nobody caught is logged with its stack, and the engine leaves; when it cannot, it is ended', () => {
  vi.useFakeTimers();
  const emitter = new EventEmitter();
  const ours = emitter as unknown as Pick<NodeJS.Process, 'on' | 'off'>;
  const log = vi.fn();
  const [leave, end] = [vi.fn(), vi.fn()];
  const stopLooking = leaveOnBugs({ log, leave, end, process: ours });
  emitter.emit('uncaughtException', new Error('no space left'), 'unhandledRejection');
  emitter.emit('uncaughtException', 'again', 'uncaughtException');
  expect(leave).toHaveBeenCalledTimes(2);
  expect(log).toHaveBeenCalledWith('error', expect.stringContaining('no space left'), {
    origin: 'unhandledRejection',
    stack: expect.stringContaining('last-resort.test.ts') as string,
  });
  expect(end).not.toHaveBeenCalled();
  vi.advanceTimersByTime(60_000);
  expect(end).toHaveBeenCalledTimes(1);
  stopLooking();
  expect(emitter.listenerCount('uncaughtException')).toBe(0);
});
