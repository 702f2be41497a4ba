import { BangerError } from '../../errors.ts';
import { maxLineBytes } from './messages.ts';

const newline = 0x0a;

/**
 * Cuts a byte stream into lines of JSON.
 *
 * A connection may turn into frames in the middle of a chunk: after `stop`, what has not been read as
 * lines yet is handed back untouched.
 */
export class LineReader {
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #stopped = false;

  /** Feeds a chunk and calls `onLine` for each complete line. Returns bytes that belong to what follows the lines. */
  push(chunk: Buffer, onLine: (line: unknown) => void): Buffer | undefined {
    let rest = chunk;
    while (!this.#stopped) {
      const end = rest.indexOf(newline);
      if (end < 0) {
        this.#hold(rest);
        return undefined;
      }
      const line = Buffer.concat([...this.#pending, rest.subarray(0, end)]);
      this.#pending = [];
      this.#pendingBytes = 0;
      rest = rest.subarray(end + 1);
      onLine(parseLine(line));
    }
    return rest;
  }

  /** From now on bytes are not lines any more. Called from within `onLine`. */
  stop(): void {
    this.#stopped = true;
  }

  #hold(bytes: Buffer): void {
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes > maxLineBytes) {
      throw new BangerError('invalid_argument', `RPC message is longer than ${maxLineBytes} bytes`);
    }
    if (bytes.length > 0) this.#pending.push(bytes);
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
