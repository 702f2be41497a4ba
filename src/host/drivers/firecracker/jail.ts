import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import { vmUser, type OwnRights } from '../qemu-confinement.ts';
import { vmmEnvironment } from '../vmm-environment.ts';
import { processName } from '../vmm-process.ts';

/** Whether Firecracker is started by its jailer: `auto` where that is possible, `always` or not at all. */
export type JailerWish = 'auto' | 'always' | 'never';

/** Programs and user of a Firecracker that its jailer starts. */
export interface Jailing {
  readonly jailer: string;
  /** With no links in it: the jailer names a directory after it */
  readonly execFile: string;
  /** And group */
  readonly user: number;
}

/** What decides on a jail. */
export interface JailQuestion {
  readonly wish: JailerWish;
  /** Firecracker, as a name or a path */
  readonly program: string;
  readonly id: string;
  readonly rights: OwnRights;
  /** Where programs are looked for, as in `PATH`; where VMMs are unless given */
  readonly searchPath?: string;
}

/** A jail, or in one phrase why there is none. */
export type JailDecision =
  | { readonly jailing: Jailing; readonly reason?: undefined }
  | { readonly jailing?: undefined; readonly reason: string };

/** Decides whether a VM's Firecracker is jailed. Looks for programs, and starts none. */
export function decideJail({
  wish,
  program,
  id,
  rights,
  searchPath = vmmEnvironment()['PATH'],
}: JailQuestion): JailDecision {
  if (wish === 'never') return { reason: 'the configuration forbids its jailer' };
  if (rights.uid !== 0) return { reason: 'its jailer needs root' };
  const user = vmUser(id, rights);
  if (user === undefined) return { reason: 'root may not become another user here, as its jailer has to' };
  const found = findProgram(program, searchPath);
  if (found === undefined) return { reason: `"${program}" is not installed or not in PATH` };
  const execFile = realpathSync(found);
  if (!basename(execFile).includes('firecracker'))
    // Which release it is, is not known before it is started.
    return { reason: `jailers before release 1.13 start no program named "${basename(execFile)}"` };
  const jailer = findJailer(found, execFile, searchPath);
  return jailer === undefined
    ? { reason: `no jailer is beside "${found}" or in PATH` }
    : { jailing: { jailer, execFile, user } };
}

/** The one of the same release first: both carry it in their names as they are published. */
function findJailer(program: string, execFile: string, searchPath: string | undefined): string | undefined {
  const ofRelease = basename(execFile).replace('firecracker', 'jailer');
  return [join(dirname(execFile), ofRelease), join(dirname(program), 'jailer'), 'jailer']
    .map((candidate) => findProgram(candidate, searchPath))
    .find((found) => found !== undefined);
}

/** Where a program is, as execvp(3) finds it; undefined when it is not. */
export function findProgram(program: string, searchPath = ''): string | undefined {
  const candidates = program.includes('/')
    ? [program]
    : searchPath.split(':').map((directory) => join(directory, program));
  return candidates.find((path) => path.startsWith('/') && isExecutable(path));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Paths of one jail, as the host sees them. Whatever is below `root` is the jailed user's to replace. */
export interface JailPaths {
  /** Root's alone; everything of the jail is in it */
  readonly directory: string;
  readonly root: string;
  readonly socket: string;
  /** The same socket under a name that the jailed user cannot change */
  readonly pinnedSocket: string;
}

/** Paths as a jailed Firecracker sees them. */
export const insidePaths = {
  kernel: '/kernel',
  initrd: '/initrd',
  disk: '/disk',
  vmmLog: '/vmm.log',
  socket: '/api.socket',
} as const;

/** Where a VM's jail is: beside its log, so that it is on the filesystem of its disk, and goes when the VM does. */
export function jailDirectory(vmmLog: string): string {
  return join(dirname(vmmLog), 'jail');
}

export function jailPaths(vmmLog: string, id: string, execFile: string): JailPaths {
  const directory = jailDirectory(vmmLog);
  // The jailer's own rule.
  const root = join(directory, basename(execFile), processName(id), 'root');
  return {
    directory,
    root,
    socket: join(root, insidePaths.socket),
    pinnedSocket: join(directory, 'control'),
  };
}

/** What a jailer is asked for beyond what it needs. */
export interface JailerOptions {
  /** Files of the control group and what is written to them, such as `pids.max` and `64`; absent: no group is made */
  readonly cgroup?: {
    readonly version: 1 | 2;
    /** Below the hierarchy's top */
    readonly parent: string;
    readonly values: Readonly<Record<string, string>>;
  };
  /** Largest file that it may write, in bytes: its disk counts */
  readonly maxFileBytes?: number;
  readonly maxOpenFiles?: number;
}

const maxIdLength = 64;
/** As many as the jailer allows by itself, said so that no release changes it. */
const defaultOpenFiles = 2048;

/**
 * The jailer's command line, without the program, for a Firecracker that is given `vmmArguments`
 * (https://github.com/firecracker-microvm/firecracker/blob/main/docs/jailer.md). Throws `invalid_argument` for what
 * the jailer would refuse.
 *
 * Neither `--daemonize`: it would take the console, our session is its own already; nor `--new-pid-ns`: the jailer
 * would end, and which process the VM is would be in a file that the VM's own user may write; nor `--netns`: it is
 * started in a namespace that has no name.
 */
export function jailerArguments(
  { execFile, user }: Omit<Jailing, 'jailer'>,
  jail: { readonly id: string; readonly directory: string } & JailerOptions,
  vmmArguments: readonly string[],
): string[] {
  const name = processName(jail.id);
  demand(new RegExp(`^[A-Za-z0-9-]{1,${maxIdLength}}$`).test(name), `"${name}" is no name for a jail`);
  demand(
    execFile.startsWith('/') && basename(execFile).includes('firecracker'),
    `"${execFile}" is not Firecracker`,
  );
  demand(Number.isInteger(user) && user > 0 && user < 2 ** 32 - 1, `${user} is no user for a jail`);
  demand(jail.directory.startsWith('/'), `"${jail.directory}" is not absolute`);
  return [
    ...['--id', name, '--exec-file', execFile],
    ...['--uid', String(user), '--gid', String(user)],
    ...['--chroot-base-dir', jail.directory],
    ...(jail.cgroup ? cgroupArguments(jail.cgroup) : []),
    ...(jail.maxFileBytes === undefined ? [] : ['--resource-limit', `fsize=${jail.maxFileBytes}`]),
    ...['--resource-limit', `no-file=${jail.maxOpenFiles ?? defaultOpenFiles}`],
    '--',
    ...vmmArguments,
  ];
}

function cgroupArguments({ version, parent, values }: NonNullable<JailerOptions['cgroup']>): string[] {
  const isBelow = parent.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  demand(isBelow, `"${parent}" is no place for a control group`);
  return [
    ...['--cgroup-version', String(version), '--parent-cgroup', parent],
    ...Object.entries(values).flatMap(([file, value]) => {
      // It splits at "=" and at the dot, and wants to find one of each (older ones do) and something to write.
      demand(/^[a-z0-9_]+\.[a-z0-9_]+$/i.test(file), `"${file}" is no file of a control group`);
      demand(/^[^=\n]+$/.test(value), `"${value}" cannot be written to ${file}`);
      return ['--cgroup', `${file}=${value}`];
    }),
  ];
}

function demand(isAllowed: boolean, message: string): void {
  if (!isAllowed) throw new BangerError('invalid_argument', message);
}
