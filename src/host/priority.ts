import { getPriority, setPriority } from 'node:os';

/** As `nice -n 5`: a quarter of a processor beside somebody else who wants it, all of it otherwise. */
const steps = 5;
const lowest = 19;

/**
 * Has the thread that calls it give way to the others of its process, for as long as it lives: for work that nobody
 * waits for by the millisecond. On Linux a priority is that of a thread.
 */
export function giveWay(): void {
  try {
    setPriority(Math.min(getPriority() + steps, lowest));
  } catch {
    // Where a sandbox forbids it, work goes on as before.
  }
}
