import { readFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import { BoundedLog, cutOffPath, type LogOptions } from '../bounded-log.ts';
import type { PortForward } from './driver.ts';

/** How a VMM is named on its own command line: by this it is known to be ours, and whose. */
export function processName(id: string): string {
  return `banger-${id}`;
}

/**
 * Anybody may give their process our words; only our own is one of ours, and, where we are root, one that has become
 * `user`. Told by its status: the owner of a process's directory in /proc is root for everybody who wants it so.
 */
export function isOurs(pid: number, user?: number): boolean {
  const uid = realUser(pid);
  return uid !== undefined && (uid === process.getuid!() || uid === user);
}

function realUser(pid: number): number | undefined {
  try {
    const found = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    // It has gone meanwhile, or may not be looked at: not ours.
    return undefined;
  }
}

/**
 * Beside the log that a VMM writes itself: what it and the program that is its network say on their standard error.
 * Firecracker alone has two: it does not append to its own, so that nobody else may write there.
 */
export function standardErrorPath(vmmLog: string): string {
  return `${vmmLog}.stderr`;
}

/** The log of a VMM: Firecracker goes on after a cut where it was. */
export function openVmmLog(path: string): BoundedLog {
  return new BoundedLog(path, vmmLogOptions);
}

export const vmmLogOptions: LogOptions = { mayHaveHole: true };

/** What Firecracker puts before a line: time, instance, thread, and how grave it is, which it tells when asked to. */
const linePrefix = /^\d{4}-\d\d-\d\dT[\d:.]+ \[[^\]]*?(?::(ERROR|WARN|INFO|DEBUG|TRACE))?\] /;

/**
 * What a VMM says last of what troubles it; empty when it says nothing of the kind. Firecracker logs each request, and
 * has a line for its exit code after that of the reason.
 */
export function lastWords(text: string): string {
  const line = text
    .trim()
    .split('\n')
    .findLast((one) => tellsTrouble(one) && !one.includes('Firecracker exiting with error.'));
  // They go on in sentences of ours.
  return (line ?? '')
    .replace(linePrefix, '')
    .trim()
    .replace(/(?<!\.)\.$/, '');
}

function tellsTrouble(line: string): boolean {
  const level = linePrefix.exec(line)?.[1];
  if (level !== undefined) return level === 'ERROR';
  // QEMU's start with one, in whatever trouble it ends.
  return !/^\S+: warning: /.test(line);
}

/** Makes room for the logs of a start. */
export async function keepPreviousLogs({
  consoleLog,
  vmmLog,
}: {
  readonly consoleLog: string;
  readonly vmmLog: string;
}): Promise<void> {
  for (const path of [consoleLog, vmmLog, standardErrorPath(vmmLog)]) await keepPrevious(path);
}

/** A log of the start before is kept as `NAME.before`; what was cut off it, and older ones, go. */
async function keepPrevious(path: string): Promise<void> {
  await rm(cutOffPath(path), { force: true });
  try {
    await rename(path, `${path}.before`);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** A guest that wants more memory than the host gives; `words` are the VMM's. */
export function memoryError(memoryMib: number, words: string): BangerError {
  return new BangerError(
    'host_unsupported',
    `The host cannot give the guest ${memoryMib} MiB of memory: ${words}`,
    { hint: 'Ask for less: banger vm create --memory 512M …' },
  );
}

/** A port for a VM whose VMM has no network that could lead it in. */
export function noNetworkError({ hostPort, protocol }: PortForward): BangerError {
  return new BangerError(
    'host_unsupported',
    `Port ${hostPort}/${protocol} cannot be published: this VM has no network that forwards ports`,
  );
}
