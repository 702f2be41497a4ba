import { BoundedLog } from '../../bounded-log.ts';
import { killProcess } from '../../process.ts';
import { watchOnce } from '../../watch-file.ts';
import type { RunningVmm } from '../driver.ts';

const consoleTailBytes = 4096;
/** A guest may write to its console without end, and Firecracker writes single bytes: who looks at each has no rest. */
const lookPauseMs = 150;

/** The kernel's last line, when it cannot power off the machine: Firecracker has nothing that it could do so with. */
const haltedLine = /^\[ *\d+\.\d+\] reboot: (?:Power off not available: )?System halted(?: instead)?\s*$/;

export function hasHalted({ consoleLog }: Pick<RunningVmm, 'consoleLog'>): boolean {
  const lines = new BoundedLog(consoleLog).tail(consoleTailBytes).toString('latin1').trimEnd().split('\n');
  return haltedLine.test(lines.at(-1) ?? '');
}

/**
 * Ends a VMM whose guest has halted, as any machine does whose guest powers off: it has shut down, and would stand
 * there for ever. Looks when the console has grown, a moment later; returns how to stop.
 */
export function endHaltedGuest(
  vmm: Pick<RunningVmm, 'process' | 'consoleLog'>,
  isHalted: typeof hasHalted = hasHalted,
): () => void {
  let isOver = false;
  let stopWaiting: () => void = () => undefined;
  const look = (): void => {
    if (isOver) return;
    // Waits for the next change before it looks, so that none is missed in between.
    stopWaiting = watchOnce(vmm.consoleLog, lookLater) ?? (() => undefined);
    if (!isHalted(vmm)) return;
    stopWaiting();
    isOver = true;
    // One that cannot be ended now is ended by whoever waits for it.
    killProcess(vmm.process).catch(() => undefined);
  };
  const lookLater = (): void => {
    const timer = setTimeout(look, lookPauseMs).unref();
    stopWaiting = () => clearTimeout(timer);
  };
  look();
  return () => {
    isOver = true;
    stopWaiting();
  };
}
