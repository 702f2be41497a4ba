import { createWriteStream } from 'node:fs';
import { rename, stat } from 'node:fs/promises';

/** Writes one line to the engine's log. Best effort: logging never fails an operation. */
export type Log = (
  level: 'info' | 'warn' | 'error',
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void;

/** JSON lines on a stream, one per event, with an RFC 3339 time. */
export function createLog(write: (line: string) => void): Log {
  return (level, message, fields = {}) => {
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })}\n`);
  };
}

const maxLogBytes = 8 * 1024 * 1024;

/** Appends to the engine's log; one that has grown too long is kept as `.1`. */
export async function openLog(path: string): Promise<Log> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > maxLogBytes) await rename(path, `${path}.1`);
  const stream = createWriteStream(path, { flags: 'a', mode: 0o600 });
  stream.on('error', () => undefined);
  return createLog((line) => stream.write(line));
}
