import { BangerError, errnoOf } from '../errors.ts';
import { shellQuote } from '../host/shell-quote.ts';

/**
 * What the host says no to, whoever asked it: a full disk, a quota, files that are not ours, no more descriptors. Such
 * an error becomes one for people, with the path and the errno; anything else is returned as it is. `directory` is
 * where banger keeps its files, for errors that do not say which file they are about.
 */
export function explainHostError(error: unknown, directory: string): unknown {
  if (error instanceof BangerError) return error;
  const inner =
    error instanceof AggregateError ? error.errors.map((one) => explainHostError(one, directory)) : [];
  const explained = inner.find((one) => one instanceof BangerError);
  if (explained) return explained;
  const code = errnoOf(error);
  const refusal = refusals.find(({ codes }) => code !== undefined && codes.test(code));
  if (!refusal) return error;
  const path = pathOf(error) ?? directory;
  return new BangerError('host_unsupported', `${refusal.fact}: "${path}" (${code})`, {
    hint: refusal.hint(path),
    cause: error,
  });
}

interface Refusal {
  /** Errnos, and what SQLite calls them */
  readonly codes: RegExp;
  readonly fact: string;
  readonly hint: (path: string) => string;
}

const makeRoom = (): string =>
  'Make room, for example by deleting what is not used: banger image prune; banger vm prune';

const refusals: readonly Refusal[] = [
  { codes: /^(?:ENOSPC|SQLITE_FULL)$/, fact: 'The disk is full', hint: makeRoom },
  { codes: /^EDQUOT$/, fact: 'The disk quota is used up', hint: makeRoom },
  {
    codes: /^(?:EROFS|SQLITE_READONLY.*)$/,
    fact: 'The filesystem is read-only',
    hint: () => 'Make it writable, or have banger keep its files elsewhere by setting BANGER_HOME',
  },
  {
    codes: /^(?:EACCES|EPERM|SQLITE_CANTOPEN.*|SQLITE_PERM)$/,
    fact: 'The host does not permit it',
    hint: (path) =>
      `What banger keeps must belong to the user who runs it; see whose it is with: ls -ld ${shellQuote([path])}`,
  },
  {
    codes: /^(?:EIO|SQLITE_IOERR.*)$/,
    fact: 'The disk does not read or write',
    hint: () => 'The kernel may know why: dmesg',
  },
  {
    codes: /^(?:EMFILE|ENFILE)$/,
    fact: 'There are too many open files',
    hint: () => 'Let the engine have more (the next command starts it): ulimit -n 4096; banger engine stop',
  },
];

function pathOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('path' in error)) return undefined;
  return typeof error.path === 'string' ? error.path : undefined;
}
