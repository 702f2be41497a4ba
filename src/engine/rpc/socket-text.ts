import { posix } from 'node:path';
import { BangerError } from '../../errors.ts';

/** A Unix socket of this host to be made, and where it leads in the guest. */
export interface SocketRequest {
  readonly hostPath: string;
  readonly guestPath: string;
}

/** Longest path of a Unix socket in bytes, without its terminating zero. */
const maxPathBytes = 107;

/** True for what `parseSocketText` is meant to read: it begins with a path. */
export function isSocketText(text: string): boolean {
  return /^\.{0,2}\//.test(text);
}

/** Parses `/host.sock:/guest.sock`. A path of the host may be relative to `cwd`. */
export function parseSocketText(text: string, cwd: string): SocketRequest {
  const [host, guest, ...rest] = text.split(':');
  if (host === undefined || !guest?.startsWith('/') || rest.length > 0)
    throw refusal(
      `"${text}" is not a socket to publish: write HOSTPATH:GUESTPATH, the guest's from the root, without colons in them`,
    );
  return { hostPath: parseHostSocket(host, cwd), guestPath: checkPath(posix.normalize(guest)) };
}

/** The path of a socket on the host. */
export function parseHostSocket(text: string, cwd: string): string {
  return checkPath(posix.resolve(cwd, text));
}

/** True when it can be the address of a socket. */
export function isSocketPath(path: string): boolean {
  return problemOf(path) === undefined;
}

function checkPath(path: string): string {
  const problem = problemOf(path);
  if (problem !== undefined) throw refusal(problem);
  return path;
}

function problemOf(path: string): string | undefined {
  if (!path.startsWith('/') || path.endsWith('/')) return `"${path}" is not the path of a socket`;
  // eslint-disable-next-line no-control-regex -- that is what is looked for
  if (/[\x00-\x1f\x7f:]/.test(path))
    return `${JSON.stringify(path)} has a character that paths of published sockets cannot have`;
  const bytes = Buffer.byteLength(path);
  if (bytes <= maxPathBytes) return undefined;
  return `"${path}" has ${bytes} bytes, and the path of a socket at most ${maxPathBytes}`;
}

function refusal(what: string): BangerError {
  return new BangerError('invalid_argument', what);
}
