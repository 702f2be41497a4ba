import { readFileSync } from 'node:fs';
import type { Exec } from '../exec.ts';
import { hasCapabilities } from '../own-capabilities.ts';

/** What a QEMU is, as far as its options depend on it. */
export interface QemuBuild {
  readonly major: number;
  readonly minor: number;
  /** False when it was built without seccomp */
  readonly hasSandbox: boolean;
  /** False when it was not let, where root is not all that root is elsewhere */
  readonly mayChangeRoot: boolean;
}

/** What QEMU says when it was built without seccomp. */
const sandboxRefusal = '-sandbox support is not enabled';
const rootRefusal = 'chroot failed';

/** The same build with less asked of it, when it ended with words that say what it cannot; else undefined. */
export function askingLess(build: QemuBuild, words: string): QemuBuild | undefined {
  if (build.hasSandbox && words.includes(sandboxRefusal)) return { ...build, hasSandbox: false };
  if (build.mayChangeRoot && words.includes(rootRefusal)) return { ...build, mayChangeRoot: false };
  return undefined;
}

const versionTimeoutMs = 20_000;

/** Asks a QEMU for its version. One that does not say is taken for the oldest that is used. */
export async function readQemuBuild(exec: Exec, program: string): Promise<QemuBuild> {
  const { stdout } = await exec([program, '--version'], { timeoutMs: versionTimeoutMs });
  const found = /version (\d+)\.(\d+)/.exec(stdout.toString('utf8'));
  const version = { major: Number(found?.[1] ?? 6), minor: Number(found?.[2] ?? 0) };
  return { ...version, hasSandbox: true, mayChangeRoot: true };
}

/** True when a build is of this version or later. */
export function isAtLeast(build: QemuBuild, major: number, minor: number): boolean {
  return build.major > major || (build.major === major && build.minor >= minor);
}

/** Who a QEMU of root's becomes once its machine is made, and, where it can, the directory that is all it sees then. */
export interface OtherSelf {
  readonly user: number;
  readonly root?: string;
}

/**
 * Options that take from QEMU what it does not need once its machine is made: system calls, starting programs, and,
 * when it becomes somebody else, root's rights and the host's files. It opens its files and sockets before that, so
 * that they stay root's own.
 */
export function confinementArguments(build: QemuBuild, become?: OtherSelf): string[] {
  const denied = ['obsolete=deny', 'spawn=deny', 'resourcecontrol=deny'];
  // It would forbid QEMU to become the user, too; afterwards there is nothing left that could be elevated.
  if (!become) denied.push('elevateprivileges=deny');
  return [
    ...(build.hasSandbox ? ['-sandbox', ['on', ...denied].join(',')] : []),
    ...(become ? becomeArguments(build, become) : []),
  ];
}

/** In the words of its version: `-chroot` is `-run-with chroot=` from 8.1 on, `-runas` is `-run-with user=` from 9.1. */
function becomeArguments(build: QemuBuild, { user, root }: OtherSelf): string[] {
  const who = `${user}:${user}`;
  const words: string[] = [];
  const runWith: string[] = [];
  if (isAtLeast(build, 9, 1)) runWith.push(`user=${who}`);
  else words.push('-runas', who);
  if (root !== undefined && isAtLeast(build, 8, 1)) runWith.push(`chroot=${escapeOption(root)}`);
  else if (root !== undefined) words.push('-chroot', root);
  return runWith.length === 0 ? words : [...words, '-run-with', runWith.join(',')];
}

/** In QEMU's option lists a comma is written twice. */
export function escapeOption(value: string): string {
  return value.replaceAll(',', ',,');
}

/**
 * First of the users that VMMs of root become, one for each VM. Nobody has these numbers: distributions, containers
 * and dynamic users all stay below (https://systemd.io/UIDS-GIDS/).
 */
const firstUser = 0x7000_0000;

/** What tells whether we may become somebody else: texts of /proc/self/{status,uid_map,gid_map}. */
export interface OwnRights {
  readonly uid: number;
  readonly status: string;
  readonly uidMap: string;
  readonly gidMap: string;
}

export function readOwnRights(): OwnRights {
  const read = (name: string): string => readFileSync(`/proc/self/${name}`, 'utf8');
  return { uid: process.getuid!(), status: read('status'), uidMap: read('uid_map'), gidMap: read('gid_map') };
}

/**
 * The user, and group, that the VMM of a VM runs as when we are root. Undefined when we are not, and where root may
 * not become that user, as in some containers: then it runs as we do.
 */
export function vmUser(id: string, rights: OwnRights): number | undefined {
  if (rights.uid !== 0) return undefined;
  if (!hasCapabilities(['setuid', 'setgid'], rights.status)) return undefined;
  const user = firstUser + (Number.parseInt(id.slice(0, 6), 16) || 0);
  return isMapped(rights.uidMap, user) && isMapped(rights.gidMap, user) ? user : undefined;
}

/** True where a VMM that becomes another user can have a root directory of its own before it does. */
export function mayChangeRoot(build: QemuBuild, { status }: OwnRights): boolean {
  return build.mayChangeRoot && hasCapabilities(['sysChroot'], status);
}

/** See user_namespaces(7). */
function isMapped(map: string, number: number): boolean {
  return map
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .some(([first = 0, , count = 0]) => number >= first && number < first + count);
}
