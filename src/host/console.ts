import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
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
  let position = 0;
  for (;;) {
    if (options.signal.aborted) throw abortError(options.signal);
    // Asked before reading: what the VMM wrote last must be seen.
    const exited = options.hasExited();
    const chunk = await readFrom(consoleLog, position);
    position += chunk.length;
    const ready = lines.push(chunk.toString('latin1'));
    if (ready) return ready;
    const mayHoldMore = chunk.length === readBytes;
    if (position > maxConsoleBytes)
      throw new BangerError('guest_unreachable', 'The guest flooded its console during boot');
    if (exited && !mayHoldMore) throw endedEarly(lines);
    if (deadline.isOver()) {
      throw new BangerError(
        'timeout',
        `The guest was not ready within ${options.timeoutMs / 1000} s${tailOf(lines.end)}`,
      );
    }
    if (!mayHoldMore) await sleep(pollMs);
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
export async function readHead(path: string, maxBytes: number): Promise<string> {
  let text = '';
  while (text.length < maxBytes) {
    const chunk = await readFrom(path, text.length);
    if (chunk.length === 0) break;
    text += chunk.toString('latin1');
  }
  return text;
}

async function readFrom(path: string, position: number): Promise<Buffer> {
  try {
    const file = await open(path, 'r');
    try {
      const buffer = Buffer.alloc(readBytes);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
