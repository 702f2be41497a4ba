import { rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** What a file or directory is called until it is complete: beside its place, so that it can be moved there. */
export function partialPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.${Date.now().toString(36)}.partial`);
}

const endings = ['SIGTERM', 'SIGHUP'] as const;

/**
 * A file or directory that is not complete yet. Whatever ends this program until it is disposed of takes it along: a
 * Ctrl-C before anybody waits for one, a second one, a terminal that is closed.
 */
export function unfinished(path: string): Disposable & { readonly path: string } {
  // An engine may still be writing to a directory, and stops when it finds us gone.
  const remove = (): void => rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  const letGo = (): void => {
    process.off('exit', remove);
    for (const signal of endings) process.off(signal, leave);
  };
  const leave = (signal: (typeof endings)[number]): void => {
    remove();
    letGo();
    // Now it does what it does without us.
    process.kill(process.pid, signal);
  };
  process.once('exit', remove);
  for (const signal of endings) process.once(signal, leave);
  return { path, [Symbol.dispose]: letGo };
}
