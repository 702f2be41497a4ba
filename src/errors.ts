/** Closed list of error codes. Scripts match codes; people read messages. */
export const errorCodes = [
  'not_found',
  'already_exists',
  'invalid_argument',
  'invalid_state',
  'busy',
  'host_unsupported',
  'command_failed',
  'guest_unreachable',
  'timeout',
  'cancelled',
  'internal',
] as const;

export type ErrorCode = (typeof errorCodes)[number];

/** An error for the person at the keyboard. It crosses the RPC boundary with code, message and hint intact. */
export class BangerError extends Error {
  override readonly name = 'BangerError';
  readonly code: ErrorCode;
  /** What to do next, ending in a command line where there is one */
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** The text of anything that was thrown, for logs and joined messages. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (`ENOENT`) of a system error, or undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/**
 * Turns an abort into the error people see. Signals abort with a `BangerError`
 * when somebody had a reason; anything else is a plain cancellation.
 */
export function abortError(signal: AbortSignal): BangerError {
  const reason: unknown = signal.reason;
  if (reason instanceof BangerError) return reason;
  // Of AbortSignal.timeout: nobody has cancelled anything.
  if (reason instanceof Error && reason.name === 'TimeoutError')
    return new BangerError('timeout', 'There was no answer in time');
  return new BangerError('cancelled', 'Cancelled');
}

const writeObstacles: Readonly<Record<string, string>> = {
  ENOSPC: 'its disk is full',
  EDQUOT: 'your disk quota is used up',
  EACCES: 'you may not write there',
  EPERM: 'you may not write there',
  EROFS: 'its filesystem is read-only',
  ENOENT: 'there is no directory for it',
  ENOTDIR: 'there is a file in place of its directory',
  EISDIR: 'it is a directory',
};

/** Why a file that the user named cannot be written, in words that follow its name; undefined for what is no errno. */
export function whyNotWritten(error: unknown): string | undefined {
  const errno = errnoOf(error);
  return errno === undefined ? undefined : (writeObstacles[errno] ?? errno);
}

/**
 * What the host refused, in words for the person at the keyboard: a full or failing disk, a closed or read-only
 * directory, a path that leads nowhere, too few descriptors or processes, a database that cannot be used. Undefined for what is no such thing;
 * of several errors joined, the first that is one. `directory` is named by errors that do not say which file it was.
 */
export function explainHostError(error: unknown, directory?: string): BangerError | undefined {
  if (error instanceof AggregateError) {
    const known = error.errors.map((one) =>
      one instanceof BangerError ? one : explainHostError(one, directory),
    );
    return known.find((one) => one !== undefined);
  }
  const code = errnoOf(error);
  if (code === undefined) return undefined;
  const { path, dest, syscall } = error as { path?: unknown; dest?: unknown; syscall?: unknown };
  const place = [dest, path, directory].find((value) => typeof value === 'string');
  const where = place === undefined ? 'a file' : `"${place}"`;
  const explain = (kind: ErrorCode, message: string, hint: string): BangerError =>
    new BangerError(kind, message, { hint, cause: error });
  switch (code) {
    case 'ENOSPC':
    case 'SQLITE_FULL':
      return explain(
        'host_unsupported',
        `The disk is full: no space left to write ${code === 'ENOSPC' ? where : 'the database'}`,
        makeRoom,
      );
    case 'EDQUOT':
      return explain('host_unsupported', `Your disk quota is used up: ${where} cannot be written`, makeRoom);
    case 'EROFS':
    case 'SQLITE_READONLY':
      return explain(
        'host_unsupported',
        `${code === 'EROFS' ? where : 'The database'} is on a filesystem that is read-only`,
        'Make it writable, or choose another place: BANGER_HOME=DIR banger …',
      );
    case 'ENOENT':
      // What Node says of `mkdir -p` where the kernel said EROFS.
      if (syscall !== 'mkdir') return undefined;
      return explain(
        'host_unsupported',
        `${where} cannot be made: the filesystem is read-only, or takes no directories there`,
        'Make it writable, or choose another place: BANGER_HOME=DIR banger …',
      );
    case 'EACCES':
    case 'EPERM':
      if (place === undefined) return undefined;
      return explain(
        'host_unsupported',
        `${where} may not be used by you (${code})`,
        `See whose it is with: ls -ld ${place as string}`,
      );
    case 'ENOMEM':
      return explain(
        'host_unsupported',
        'The host has no memory left (ENOMEM)',
        'See what takes it with: banger vm stats; free -m',
      );
    case 'EMFILE':
    case 'ENFILE':
      return explain(
        'host_unsupported',
        `There are too many open files (${code}${typeof syscall === 'string' ? ` at ${syscall}` : ''})`,
        'Allow more, for the next engine: banger engine stop; ulimit -n 4096',
      );
    case 'EAGAIN':
      if (typeof syscall !== 'string' || !syscall.startsWith('spawn')) return undefined;
      return explain(
        'host_unsupported',
        'The host lets you have no more processes (EAGAIN)',
        'See the limit with: ulimit -u',
      );
    case 'SQLITE_BUSY':
    case 'SQLITE_LOCKED':
      return explain(
        'busy',
        'The database is held by another program',
        'Close what reads or copies banger.db, then try again: banger engine status shows where it is',
      );
  }
  const odd = oddPlaces[code];
  if (odd) {
    if (place === undefined) return undefined;
    return explain('host_unsupported', `${where} ${odd.what} (${code})`, odd.hint(place as string));
  }
  if (code === 'EIO' || code.startsWith('SQLITE_IOERR'))
    return explain(
      'host_unsupported',
      `The disk failed at ${place === undefined ? 'the database' : where} (${code})`,
      'The kernel may say more: dmesg | tail',
    );
  if (code.startsWith('SQLITE_CANTOPEN'))
    return explain(
      'host_unsupported',
      `The database cannot be opened (${code})`,
      'Its directory must be writable and its disk not full; see: banger doctor',
    );
  if (code.startsWith('SQLITE_READONLY'))
    return explain(
      'host_unsupported',
      `The database cannot be written (${code})`,
      'Its files must be there, yours and writable; start afresh with: banger engine stop',
    );
  return undefined;
}

/** What a path can be that makes it of no use, whoever asks: the path itself is to be changed. */
const oddPlaces: Readonly<
  Record<string, { readonly what: string; readonly hint: (place: string) => string } | undefined>
> = {
  ENOTDIR: {
    what: 'cannot be used: something above it is a file and no directory',
    hint: (place) => `See which, and choose another place: namei -l ${place}`,
  },
  EISDIR: {
    what: 'is a directory where a file should be',
    hint: (place) => `Move it away: mv ${place} ${place}.old`,
  },
  ELOOP: {
    what: 'cannot be reached: its symlinks lead in a circle',
    hint: (place) => `See how: namei -l ${place}`,
  },
  ENAMETOOLONG: {
    what: 'is a longer path, or has a longer name, than the filesystem takes',
    hint: () => 'Choose a shorter place: BANGER_HOME=DIR banger …',
  },
  EFBIG: {
    what: 'would be larger than the filesystem, or your file size limit, allows',
    hint: () => 'See the limit with: ulimit -f',
  },
  ESTALE: {
    what: 'is on a network filesystem whose server has forgotten it',
    hint: (place) => `Mount that anew, or choose another place; see: df ${place}`,
  },
  ENODEV: {
    what: 'is on a filesystem that cannot do what is needed',
    hint: (place) => `Choose a place on a disk of this host; see: df -T ${place}`,
  },
  ETXTBSY: {
    what: 'is a program that runs, and cannot be written now',
    hint: (place) => `See what runs it with: fuser -v ${place}`,
  },
};

const makeRoom = 'Make room there, for example with: banger image prune --all; banger vm list';
