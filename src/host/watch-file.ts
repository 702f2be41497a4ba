import { watch, type FSWatcher } from 'node:fs';
import { errnoOf } from '../errors.ts';

/** Where the kernel has no watches left, a file is looked at this often instead. */
const blindMs = 10_000;

/**
 * Calls back once, when a file is next written to, cut, renamed or removed. Costs nothing until then.
 *
 * Undefined when there is no such file, else how to stop waiting.
 */
export function watchOnce(path: string, onChange: () => void): (() => void) | undefined {
  let watcher: FSWatcher;
  try {
    watcher = watch(path, { persistent: false });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') return undefined;
    if (errno !== 'ENOSPC' && errno !== 'EMFILE') throw error;
    const timer = setTimeout(onChange, blindMs).unref();
    return () => clearTimeout(timer);
  }
  const changed = (): void => {
    watcher.close();
    onChange();
  };
  watcher.once('change', changed);
  watcher.once('error', changed);
  return () => watcher.close();
}
