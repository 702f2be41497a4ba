import { realpathSync } from 'node:fs';
import { copyFile, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import { hostResolvers, makeResolvers, readHostResolvers } from '../own-resolvers.ts';
import { vmmEnvironment } from '../vmm-environment.ts';
import { findProgram } from './jail.ts';
import { networkProgram } from './namespace.ts';

/** How slirp4netns is started. */
export interface NetworkProgram {
  readonly words: readonly [string, ...string[]];
  /** As it finds it from where it begins */
  readonly socket: string;
  readonly directory: string;
}

/**
 * What slirp4netns, which reads all that a guest sends, is started with, to be confined: its own root directory with
 * `/etc` and `/run` alone, no rights but to bind ports below 1024, and a filter of system calls. `etc`: what is `/etc` for
 * one of root's.
 *
 * That stays root all the same, whose are most secrets of `/etc` and most sockets of `/run`, by which the host can be
 * had: it sees neither.
 */
export function confinedNetworkProgram(
  socket: string,
  { etc, resolver = hostResolvers }: { readonly etc: string | undefined; readonly resolver?: string },
): NetworkProgram {
  if (etc !== undefined) {
    const words = [...apartWords(etc), realProgram(networkProgram), '--enable-sandbox', '--enable-seccomp'];
    // Which may be in /run, where nothing is found by then by who does not stand in it.
    return { words: words as [string, ...string[]], socket: basename(socket), directory: dirname(socket) };
  }
  // Where names are looked up by a file elsewhere, guests would have none.
  const isInside = /^\/(?:etc|run)\//.test(realPathOf(resolver) ?? '/etc/');
  const sandbox = isInside ? ['--enable-sandbox'] : [];
  return { words: [networkProgram, ...sandbox, '--enable-seccomp'], socket, directory: '/' };
}

/** How a slirp4netns may have been told of its socket: by its path, or as one of root's. Found by them. */
export function socketArguments(socket: string): readonly (readonly [string, string])[] {
  return [socket, basename(socket)].map((name) => ['--api-socket', name]);
}

/**
 * slirp4netns leaves its old root directory in a copy of the mounts of who starts it, and the kernel takes what is
 * unmounted below a shared mount from all who share it: root's copy would take along the host's /dev/pts and more. So
 * root gives it mounts that only follow what the host does. Nobody else's copy is shared: it is another user
 * namespace's (mount_namespaces(7)).
 */
function apartWords(etc: string): string[] {
  return [
    ...['unshare', '--mount', '--propagation', 'slave', '--'],
    ...['/bin/sh', '-c', hideScript, 'sh', realProgram('mount'), etc],
  ];
}

const hideScript = '"$1" --bind "$2" /etc && "$1" -t tmpfs -o ro none /run && shift 2 && exec "$@"';

/** Where there are links to programs in /etc or /run, as on NixOS, they are not to be found by those any more. */
function realProgram(name: string): string {
  const found = findProgram(name, vmmEnvironment()['PATH']);
  if (found === undefined)
    throw new BangerError('host_unsupported', `"${name}" is not installed or not in PATH`, {
      hint: 'See what is missing with: banger doctor',
    });
  return realpathSync(found);
}

const loaderCache = 'ld.so.cache';

/**
 * Makes what is `/etc` for a slirp4netns of root's. Until it has started (`hideLoader`), its libraries are found by
 * the host's list: they may be anywhere.
 */
export async function makeNetworkEtc(vmmLog: string, { hasNames }: { hasNames: boolean }): Promise<string> {
  const etc = await makeResolvers(vmmLog, hasNames ? await readHostResolvers() : '');
  try {
    await copyFile(join('/etc', loaderCache), join(etc, loaderCache));
  } catch (error) {
    // Other C libraries have none.
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  return etc;
}

export async function hideLoader(etc: string): Promise<void> {
  await rm(join(etc, loaderCache), { force: true });
}

function realPathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}
