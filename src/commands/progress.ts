import type { ProgressEvent } from '../engine/rpc/messages.ts';
import type { Ora } from 'ora';
import { formatBytes } from '../state/units.ts';
import { partLines, partNews } from './part-bars.ts';
import { printable, printableJson } from '../printable.ts';

/** Shows what is being waited for. */
export interface ProgressView {
  show(event: ProgressEvent): void;
  /** Takes the display off the screen */
  clear(): void;
}

/** The view that fits: a spinner moves only on a terminal that can take it. */
export function chooseProgress(
  stderr: NodeJS.WriteStream,
  { json, env }: { readonly json: boolean; readonly env: Readonly<Record<string, string | undefined>> },
): ProgressView {
  if (json) return jsonProgress(stderr);
  const isDumb = env['TERM'] === 'dumb' || env['CI'] !== undefined;
  return stderr.isTTY && !isDumb ? spinnerProgress(stderr) : lineProgress(stderr);
}

/** JSON lines, for programs. */
export function jsonProgress(stderr: NodeJS.WriteStream): ProgressView {
  return { show: (event) => void stderr.write(`${printableJson(event)}\n`), clear: () => undefined };
}

/** One line for each stage and each part that has come, for logs and pipes. */
export function lineProgress(stderr: NodeJS.WriteStream): ProgressView {
  let last = '';
  let told = new Set<string>();
  const write = (line: string): void => void stderr.write(`${printable(line)}\n`);
  return {
    show: (event) => {
      const line = event.detail && !event.parts ? `${event.stage}: ${event.detail}` : event.stage;
      if (line !== last) write(line);
      last = line;
      for (const news of partNews(event.parts ?? [], told)) write(news);
    },
    clear: () => {
      last = '';
      told = new Set();
    },
  };
}

/**
 * A spinner on a terminal, with a bar for each part below it. It is loaded after the first line is on the screen:
 * nobody waits for a library.
 */
export function spinnerProgress(stderr: NodeJS.WriteStream): ProgressView {
  let event: ProgressEvent | undefined;
  let spinner: Ora | undefined;
  let shown = '';
  let isLoading = false;

  const draw = (): void => {
    if (!event) return;
    shown = screenText(event, { columns: stderr.columns || 80, rows: stderr.rows || 24 });
    if (spinner) spinner.text = shown;
  };
  const load = async (): Promise<void> => {
    const { default: ora } = await import('ora');
    isLoading = false;
    if (!event || spinner) return;
    spinner = ora({ text: shown, stream: stderr, discardStdin: false }).start();
    stderr.on('resize', onResize);
  };
  const onResize = (): void => {
    if (!spinner) return;
    spinner.stop();
    // A terminal that became narrower has broken our lines into more than the spinner knows of.
    const extra = rowsOf(shown, stderr.columns || 80) - shown.split('\n').length;
    if (extra > 0) stderr.write(`\r\x1b[${extra}A\x1b[J`);
    draw();
    spinner.start();
  };
  return {
    show: (next) => {
      event = next;
      draw();
      if (spinner || isLoading) return;
      isLoading = true;
      void load();
    },
    clear: () => {
      event = undefined;
      stderr.off('resize', onResize);
      spinner?.stop();
      spinner = undefined;
    },
  };
}

/** What the spinner and the last column, which some terminals wrap at, take of a line. */
const spinnerColumns = 3;

function screenText(
  event: ProgressEvent,
  screen: { readonly columns: number; readonly rows: number },
): string {
  const columns = Math.max(1, screen.columns - spinnerColumns);
  const head = printable(progressText(event)).slice(0, columns);
  return [head, ...partLines(event.parts ?? [], { columns, rows: screen.rows - 2 })].join('\n');
}

/** Lines on the screen that a text takes; the first one begins with the spinner. */
function rowsOf(text: string, columns: number): number {
  const lengths = text.split('\n').map((line, index) => line.length + (index === 0 ? 2 : 0));
  return lengths.reduce((sum, length) => sum + Math.max(1, Math.ceil(length / columns)), 0);
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
