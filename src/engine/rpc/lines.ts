import { BangerError } from '../../errors.ts';
import { GrowingBuffer } from './growing-buffer.ts';
import { maxLineBytes } from './messages.ts';

const newline = 0x0a;

/**
 * Cuts a byte stream into lines of JSON.
 *
 * A connection may turn into frames in the middle of a chunk: after `stop`, what has not been read as
 * lines yet is handed back untouched.
 */
export class LineReader {
  readonly #pending = new GrowingBuffer();
  #maxBytes: number;
  #stopped = false;

  /** `maxBytes`: a longer line is an error */
  constructor(maxBytes = maxLineBytes) {
    this.#maxBytes = maxBytes;
  }

  /** Longer lines, or shorter ones, are an error from now on. */
  allow(maxBytes: number): void {
    this.#maxBytes = maxBytes;
  }

  /** Feeds a chunk and calls `onLine` for each complete line. Returns bytes that belong to what follows the lines. */
  push(chunk: Buffer, onLine: (line: unknown) => void): Buffer | undefined {
    let rest = chunk;
    while (!this.#stopped) {
      const end = rest.indexOf(newline);
      if (end < 0) {
        this.#hold(rest);
        return undefined;
      }
      this.#hold(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
      onLine(parseLine(this.#pending.take()));
    }
    return rest;
  }

  /** From now on bytes are not lines any more. Called from within `onLine`. */
  stop(): void {
    this.#stopped = true;
  }

  #hold(bytes: Buffer): void {
    if (this.#pending.length + bytes.length > this.#maxBytes) {
      throw new BangerError('invalid_argument', `RPC message is longer than ${this.#maxBytes} bytes`);
    }
    this.#pending.append(bytes);
  }
}

function parseLine(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch (cause) {
    throw new BangerError('invalid_argument', 'RPC message is not JSON', { cause });
  }
}

/** One message as it goes over the wire. */
export function encodeLine(message: object): string {
  return `${JSON.stringify(message)}\n`;
}
