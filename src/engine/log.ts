import { createWriteStream } from 'node:fs';
import { printableJson } from '../printable.ts';

/** Writes one line to the engine's log. Best effort: logging never fails an operation. */
export type Log = (
  level: 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** JSON lines on a stream, one per event, with an RFC 3339 time. */
export function createLog(write: (line: string) => void): Log {
  return (level, message, fields = {}) => {
    write(`${printableJson({ time: new Date().toISOString(), level, message, ...fields })}\n`);
  };
}

/** Appends to the engine's log, which somebody else may cut meanwhile. */
export function openLog(path: string): Log {
  const stream = createWriteStream(path, { flags: 'a', mode: 0o600 });
  stream.on('error', () => undefined);
  return createLog((line) => stream.write(line));
}
