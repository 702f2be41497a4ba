import { closeSync, openSync, readSync } from 'node:fs';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError, errnoOf } from '../errors.ts';
import { Deadline } from './patience.ts';

/** What the guest said when it was ready; seconds since its kernel started, at the end of each phase. */
export interface GuestReady {
  /** What its part of banger speaks, see guest-protocol.ts */
  readonly protocol: number;
  readonly bootId: string;
  readonly phases: Readonly<Record<'kernel' | 'modules' | 'root' | 'network' | 'ssh', number>>;
  /** `image`: the image's own init takes over; `banger`: it has none, and ours does */
  readonly init: 'image' | 'banger';
  readonly hasShell: boolean;
}

const pollMs = 10;
/** Whether the VMM is still there takes reading several files of /proc. */
const looksPerAliveCheck = 10;
const readBytes = 64 * 1024;
/** A guest that floods its console before it is ready is not read for ever. */
const maxConsoleBytes = 16 * 1024 * 1024;

/**
 * Follows a console log until the guest prints its ready line.
 *
 * Throws `guest_unreachable` with the end of the console when the guest reports an error, when the VMM ends
 * first (`hasExited`), and `timeout` when neither comes.
 */
export async function waitForReady(
  consoleLog: string,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal; readonly hasExited: () => boolean },
): Promise<GuestReady> {
  const deadline = new Deadline(options.timeoutMs);
  const lines = new ConsoleLines();
  const reader = new FileReader(consoleLog);
  try {
    for (let looks = 0; ; looks++) {
      if (options.signal.aborted) throw abortError(options.signal);
      // Asked before reading: what the VMM wrote last must be seen.
      const exited = looks % looksPerAliveCheck === 0 && options.hasExited();
      const chunk = reader.next();
      const ready = chunk === '' ? undefined : lines.push(chunk);
      if (ready) return ready;
      const mayHoldMore = chunk.length === readBytes;
      if (reader.position > maxConsoleBytes)
        throw new BangerError('guest_unreachable', 'The guest flooded its console during boot');
      if (exited && !mayHoldMore) throw endedEarly(lines);
      if (deadline.isOver()) {
        throw new BangerError(
          'timeout',
          `The guest was not ready within ${options.timeoutMs / 1000} s${tailOf(lines.end)}`,
        );
      }
      // Others get their turn between the pieces of a flood.
      await (mayHoldMore ? setImmediate() : sleep(pollMs));
    }
  } finally {
    reader.close();
  }
}

/**
 * Reads a file that grows, piece by piece. Many boots at once look a hundred times a second each, so a look that finds
 * nothing is one system call: what takes a thread and a buffer for each takes as much time as a boot itself.
 */
class FileReader {
  position = 0;
  readonly #path: string;
  #file: number | undefined;
  readonly #buffer = Buffer.allocUnsafeSlow(readBytes);

  constructor(path: string) {
    this.#path = path;
  }

  /** What comes next, a character for each byte; empty when there is nothing yet, or no file. */
  next(): string {
    this.#file ??= openIfThere(this.#path);
    if (this.#file === undefined) return '';
    const length = readSync(this.#file, this.#buffer, 0, readBytes, this.position);
    this.position += length;
    return this.#buffer.toString('latin1', 0, length);
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Longer than any line that we look for. */
const maxLineLength = 2048;
const endLength = 4096;

/** What is known of a console after each piece of it; the work and the memory for a piece do not grow with the console. */
class ConsoleLines {
  /** The last of it */
  end = '';
  /** The guest's own words when it gave up */
  reported: { readonly stage: string; readonly words: string } | undefined;
  #line = '';

  /** Takes the next piece; returns the ready line once it is whole. */
  push(text: string): GuestReady | undefined {
    const fresh = this.#line + text;
    this.end = (this.end + text).slice(-endLength);
    const found = /(?:^|\n)banger-error stage=(\S{1,40}) ([^\r\n]{1,500})/.exec(fresh);
    if (found) this.reported = { stage: found[1]!, words: found[2]! };
    // From the last line's beginning on, with the newline before it: the rest has been looked at.
    const last = fresh.slice(Math.max(0, fresh.lastIndexOf('\n')));
    // A line that long is noise, and so is what follows in it.
    this.#line = last.length > maxLineLength ? '?' : last;
    return findReadyLine(fresh);
  }
}

/** Parses the ready line (see guest/start-image). Anything not of its exact shape is console noise. */
export function findReadyLine(text: string): GuestReady | undefined {
  const found = /(?:^|\n)banger-ready v=(\d{1,6}) ([^\r\n]{1,1000})\r?\n/.exec(text);
  if (!found) return undefined;
  const line = found[2]!;
  const values = new Map(line.split(' ').map((pair) => pair.split('=', 2) as [string, string]));
  const seconds = (key: string): number => {
    const value = Number(values.get(key));
    return Number.isFinite(value) ? value : 0;
  };
  return {
    protocol: Number(found[1]),
    bootId: values.get('boot_id') ?? '',
    phases: {
      kernel: seconds('kernel'),
      modules: seconds('modules'),
      root: seconds('root'),
      network: seconds('network'),
      ssh: seconds('ssh'),
    },
    init: values.get('init') === 'image' ? 'image' : 'banger',
    hasShell: (values.get('shell') ?? 'none') !== 'none',
  };
}

function endedEarly({ reported, end }: ConsoleLines): BangerError {
  if (reported)
    return new BangerError(
      'guest_unreachable',
      `The guest stopped at "${reported.stage}": ${reported.words}`,
    );
  return new BangerError('guest_unreachable', `The guest ended before it was ready${tailOf(end)}`);
}

/** The last lines of a console, made harmless for a terminal. */
function tailOf(text: string): string {
  const lines = text
    // eslint-disable-next-line no-control-regex -- a guest's console may hold any byte
    .replace(/\u001b\[[0-9;?]*[A-Za-z]|[^\n\x20-\x7e]/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-3);
  return lines.length === 0 ? '; its console is empty' : `; its console ends with: ${lines.join(' | ')}`;
}

/** The beginning of a console log as text; empty when there is none. */
export function readHead(path: string, maxBytes: number): string {
  const reader = new FileReader(path);
  try {
    let text = '';
    while (text.length < maxBytes) {
      const chunk = reader.next();
      if (chunk === '') break;
      text += chunk;
    }
    return text;
  } finally {
    reader.close();
  }
}
