import { closeSync, openSync } from 'node:fs';

/** A client's connection, a program with its pipes, a guest's connection. */
const spareDescriptors = 8;

/**
 * Throws EMFILE when this process may not open a few more files. A server without them would be worse than none: the
 * kernel lets clients connect, and each is hung up on without a word.
 */
export function requireSpareDescriptors(): void {
  const opened: number[] = [];
  try {
    while (opened.length < spareDescriptors) opened.push(openSync('/dev/null', 'r'));
  } finally {
    for (const descriptor of opened) closeSync(descriptor);
  }
}
