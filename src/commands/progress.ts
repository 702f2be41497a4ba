import type { ProgressEvent } from '../engine/rpc/messages.ts';
import { formatBytes } from '../state/units.ts';
import { printable } from './printable.ts';

/** Shows what is being waited for. */
export interface ProgressView {
  show(event: ProgressEvent): void;
  /** Takes the display off the screen */
  clear(): void;
}

/** JSON lines, for programs. */
export function jsonProgress(stderr: NodeJS.WriteStream): ProgressView {
  return { show: (event) => void stderr.write(`${JSON.stringify(event)}\n`), clear: () => undefined };
}

/** One line for each stage, for logs and pipes. */
export function lineProgress(stderr: NodeJS.WriteStream): ProgressView {
  let last = '';
  return {
    show: (event) => {
      const line = event.detail ? `${event.stage}: ${event.detail}` : event.stage;
      if (line !== last) stderr.write(`${printable(line)}\n`);
      last = line;
    },
    clear: () => undefined,
  };
}

/** A spinner on a terminal. It is loaded after the first line is on the screen: nobody waits for a library. */
export function spinnerProgress(stderr: NodeJS.WriteStream): ProgressView {
  let text = '';
  let spinner: { text: string; stop(): unknown } | undefined;
  let isWanted = false;
  const load = async (): Promise<void> => {
    const { default: ora } = await import('ora');
    if (isWanted && !spinner) spinner = ora({ text, stream: stderr, discardStdin: false }).start();
  };
  return {
    show: (event) => {
      text = printable(progressText(event));
      if (spinner) spinner.text = text;
      else if (!isWanted) void load();
      isWanted = true;
    },
    clear: () => {
      isWanted = false;
      spinner?.stop();
      spinner = undefined;
    },
  };
}

/** `Pulling ubuntu: layer 2 of 5, 12 MiB of 30 MiB` */
export function progressText(event: ProgressEvent): string {
  const amount = (value: number): string => (event.unit === 'bytes' ? formatBytes(value) : String(value));
  const words = [event.stage];
  if (event.detail) words.push(`: ${event.detail}`);
  if (event.done !== undefined)
    words.push(`, ${amount(event.done)}${event.total ? ` of ${amount(event.total)}` : ''}`);
  return words.join('');
}
