import { accessSync, constants, readFileSync } from 'node:fs';
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf } from '../../../errors.ts';
import { Deadline } from '../../patience.ts';
import { processName } from '../vmm-process.ts';
import { openDirectory, unescapeMount } from './chroot.ts';
import type { JailerOptions } from './jail.ts';

/** Whose groups those of VMs are in, below a hierarchy's top. */
const parent = 'banger';
/** What a VM's group limits, and by what that is known. */
const controllers = ['memory', 'cpu', 'pids'] as const;
type Controller = (typeof controllers)[number];

/** Where groups are made. */
export interface Hierarchies {
  readonly version: 1 | 2;
  /** The top that each controller is at; one for all of them in version 2 */
  readonly tops: Readonly<Record<Controller, string>>;
}

/** Hierarchies, or in one phrase why there are none that could be used. */
export type GroupDecision =
  | { readonly hierarchies: Hierarchies; readonly reason?: undefined }
  | { readonly hierarchies?: undefined; readonly reason: string };

/**
 * Finds the control groups of this host by the jailer's own rules: the first mount of version 2 if it has the
 * controllers, else of version 1 the first of each. `mounts` is the text of /proc/mounts.
 */
export function findControlGroups(mounts = readFileSync('/proc/mounts', 'utf8')): GroupDecision {
  const found = parseMounts(mounts);
  const unified = found.find(({ version }) => version === 2)?.directory;
  const refusal = unified === undefined ? undefined : unifiedRefusal(unified);
  if (unified !== undefined && refusal === undefined) {
    const tops = { memory: unified, cpu: unified, pids: unified };
    return { hierarchies: { version: 2, tops } };
  }
  const topOf = (controller: Controller): string | undefined =>
    found.find(({ version, options }) => version === 1 && options.includes(controller))?.directory;
  const [memory, cpu, pids] = controllers.map(topOf);
  if (memory === undefined || cpu === undefined || pids === undefined)
    return { reason: refusal ?? 'this host has no control groups for memory, cpu and pids' };
  const closed = [memory, cpu, pids].find((top) => !isWritable(top));
  if (closed !== undefined) return { reason: `"${closed}" may not be written to` };
  return { hierarchies: { version: 1, tops: { memory, cpu, pids } } };
}

interface GroupMount {
  readonly version: 1 | 2;
  readonly directory: string;
  readonly options: readonly string[];
}

function parseMounts(mounts: string): readonly GroupMount[] {
  return mounts.split('\n').flatMap((line) => {
    const [, directory = '', type, options = ''] = line.split(' ');
    if (type !== 'cgroup' && type !== 'cgroup2') return [];
    const version = type === 'cgroup2' ? 2 : 1;
    return [{ version, directory: unescapeMount(directory), options: options.split(',') } as const];
  });
}

/** A group with processes in it, as a container's top is, may hand on no controller that it does not already. */
function unifiedRefusal(top: string): string | undefined {
  const read = (name: string): string => {
    try {
      return readFileSync(join(top, name), 'utf8');
    } catch {
      return '';
    }
  };
  const [available, handedOn] = ['cgroup.controllers', 'cgroup.subtree_control'].map((name) =>
    read(name).trim().split(' '),
  );
  const missing = controllers.filter((name) => !available!.includes(name));
  if (missing.length > 0) return `the control groups at "${top}" have no ${missing.join(', ')}`;
  if (!isWritable(top)) return `"${top}" may not be written to`;
  // Only the host's own top has no type.
  const isHosts = read('cgroup.type') === '';
  const isClosed = !isHosts && read('cgroup.procs').trim() !== '';
  const isHandedOn = controllers.every((name) => handedOn!.includes(name));
  return isClosed && !isHandedOn
    ? `the control groups at "${top}" hand on no limits: processes are in the topmost one`
    : undefined;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

const mib = 1024 ** 2;
/**
 * What a VMM needs besides its guest's memory: itself, page tables, buffers. The host's cache of its disk counts, and is
 * given back once it is written: version 2 makes a group that writes much wait for that. Version 1 does not, and ends
 * a process of it instead, so that memory has no limit there.
 */
const memoryRoomMib = 128;
const memoryRoomShare = 1 / 16;
/** Beside the guest's processors: who emulates their devices. */
const cpuRoom = 1;
/** Threads beside those of the guest's processors. */
const pidsRoom = 64;
const periodUs = 100_000;

/** What a jailer is to write, for a VMM of a guest of this size. */
export function groupLimits(
  { version }: Hierarchies,
  { cpus, memoryMib }: { readonly cpus: number; readonly memoryMib: number },
): NonNullable<JailerOptions['cgroup']> {
  const memory = String((memoryMib + memoryRoomMib + Math.ceil(memoryMib * memoryRoomShare)) * mib);
  const quota = (cpus + cpuRoom) * periodUs;
  const pids = String(cpus + pidsRoom);
  const values: Readonly<Record<string, string>> =
    version === 2
      ? { 'memory.max': memory, 'cpu.max': `${quota} ${periodUs}`, 'pids.max': pids }
      : { 'cpu.cfs_quota_us': String(quota), 'pids.max': pids };
  return { version, parent, values };
}

/** How often the group above may be removed at the very moment that one is made in it. */
const maxMakings = 100;

/**
 * Makes a VM's groups, those that its jailer will find. Else the one above, which goes with the last VM in it, could be
 * removed on behalf of another VM while the jailer is between making it and using it: with a group in it, it stays.
 *
 * Where there are no groups nothing is made. Those that are there already count as made.
 */
export async function makeControlGroups(id: string, mounts?: string): Promise<void> {
  const { hierarchies } = findControlGroups(mounts);
  if (!hierarchies) return;
  const { tops, version } = hierarchies;
  const used = version === 2 ? [tops.memory] : [tops.cpu, tops.pids];
  for (const top of new Set(used)) {
    const above = join(top, parent);
    const group = join(above, processName(id));
    try {
      await makeGroup(above, group);
    } catch (error) {
      throw new BangerError(
        'command_failed',
        `The control group "${group}" cannot be made: ${errnoOf(error)}`,
        {
          hint: 'Let VMs run without: set jailer = "never" under [vmm] in the configuration',
          cause: error,
        },
      );
    }
  }
}

async function makeGroup(above: string, group: string): Promise<void> {
  for (let making = 1; ; making++) {
    await makeDirectory(above);
    try {
      return await makeDirectory(group);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || making >= maxMakings) throw error;
    }
  }
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'EEXIST') throw error;
  });
}

/** How long a process that was ended may take to leave its group: its last thread gives back the guest's memory. */
const leaveTimeoutMs = 10_000;
const leavePollMs = 10;

/**
 * Removes a VM's groups, and the one that they were in if it has no others. Those that are gone count as removed.
 *
 * No link is followed: a group is a directory directly below one that is held open, and only directories are removed,
 * which have to be empty of groups and processes. Throws `busy` for one that is not.
 */
export async function removeControlGroups(
  id: string,
  mounts = readFileSync('/proc/mounts', 'utf8'),
): Promise<void> {
  // Only root's jailer makes any, and nobody else could remove them.
  if (process.getuid!() !== 0) return;
  const tops = new Set(
    parseMounts(mounts)
      .filter(({ version, options }) => version === 2 || controllers.some((name) => options.includes(name)))
      .map(({ directory }) => directory),
  );
  for (const top of tops) await removeGroup(top, processName(id));
}

async function removeGroup(top: string, name: string): Promise<void> {
  const above = await openDirectory(top);
  if (!above) return;
  try {
    const below = `/proc/self/fd/${above.fd}`;
    const ours = await openDirectory(join(below, parent));
    if (!ours) return;
    try {
      await removeEmpty(join(`/proc/self/fd/${ours.fd}`, name), join(top, parent, name));
    } finally {
      await ours.close();
    }
    // Others' are in it, or will be in a moment (`makeControlGroups`), or somebody was faster.
    await rmdir(join(below, parent)).catch(() => undefined);
  } finally {
    await above.close();
  }
}

async function removeEmpty(path: string, shown: string): Promise<void> {
  const deadline = new Deadline(leaveTimeoutMs);
  for (;;) {
    try {
      return await rmdir(path);
    } catch (error) {
      const errno = errnoOf(error);
      // A link there, or a file, is not ours.
      if (errno === 'ENOENT' || errno === 'ENOTDIR') return;
      if (errno !== 'EBUSY' && errno !== 'ENOTEMPTY') throw error;
      if (deadline.isOver())
        throw new BangerError('busy', `The control group "${shown}" of a VM that has ended is still in use`, {
          hint: `See by whom with: cat ${shown}/cgroup.procs`,
          cause: error,
        });
    }
    await sleep(leavePollMs);
  }
}
