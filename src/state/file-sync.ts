import { posix } from 'node:path';
import { BangerError } from '../errors.ts';

/** A file or directory of the host that a VM gets a copy of at each start. */
export interface FileSync {
  /** Absolute, or below the user's home as `~/…` */
  readonly host: string;
  /** Absolute */
  readonly guest: string;
  /** One that is missing is no error */
  readonly optional: boolean;
}

/** Where `~` is in guests. */
export const guestHome = '/root';

/** What is the kernel's, or ours, and goes when the guest does. */
const kernelDirectories = /^\/(?:proc|sys|dev|run\/banger)(?:\/|$)/;

/**
 * Checks the two paths of a copy. Without a guest path it is the one that the host's has below `home`, or below `~`.
 */
export function parseFileSync(
  given: { readonly host: string; readonly guest?: string; readonly optional?: boolean },
  home?: string,
): FileSync {
  const host = parseHostPath(given.host);
  const guest = given.guest ?? sameBelowHome(host, home);
  return { host, guest: parseGuestPath(guest), optional: given.optional ?? false };
}

/** `HOST` or `HOST:GUEST`. The last colon before a `/` or `~` parts them: names of files may have colons. */
export function splitFileSync(text: string): { readonly host: string; readonly guest?: string } {
  const match = /^([^]+):([/~][^:]*)$/.exec(text);
  return match ? { host: match[1]!, guest: match[2]! } : { host: text };
}

/** A host path with the home in the place of `~`. */
export function expandHome(path: string, home: string): string {
  return path.replace(/^~(?=\/|$)/, () => home);
}

function parseHostPath(text: string): string {
  if (/^~[^/]/.test(text)) throw refusal(`"${text}" is in the home of another user`, 'Write the path from /');
  if (!/^(?:~(?:\/|$)|\/)/.test(text))
    throw refusal(`"${text}" is not an absolute path`, 'Write it from / or from ~/');
  refuseOddities(text);
  const path = posix.normalize(text).replace(/(?<=.)\/+$/, '');
  if (path === '/' || path === '~')
    throw refusal(`"${text}" is too much to be sent`, 'Name the files and directories in it');
  return path;
}

function sameBelowHome(host: string, home: string | undefined): string {
  if (host.startsWith('~/')) return host;
  if (home !== undefined && host.startsWith(`${home}/`)) return `~${host.slice(home.length)}`;
  throw refusal(
    `"${host}" is not in your home directory, so that its place in the VM is not known`,
    'Say where it goes, such as /etc/app.conf or ~/.config/app',
  );
}

function parseGuestPath(text: string): string {
  refuseOddities(text);
  const path = posix.normalize(expandHome(text, guestHome)).replace(/\/+$/, '');
  if (!path.startsWith('/') || path === '' || kernelDirectories.test(path))
    throw refusal(
      `"${text}" is no place for files in a VM`,
      'Give a path such as ~/.config/app or /etc/app.conf; ~ is /root',
    );
  return path;
}

function refuseOddities(text: string): void {
  // eslint-disable-next-line no-control-regex -- a path with one could not be shown as it is
  if (/[\u0000-\u001f]/.test(text)) throw refusal(`${JSON.stringify(text)} has a control character in it`);
  if (text.split('/').includes('..')) throw refusal(`"${text}" has ".." in it`, 'Write the path it leads to');
}

function refusal(what: string, hint?: string): BangerError {
  return new BangerError('invalid_argument', what, { hint });
}
