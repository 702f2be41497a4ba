import { randomBytes } from 'node:crypto';
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  type Dirent,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../errors.ts';
import { DeviceStack, recordSuffix } from './disks/device-stack.ts';
import { removeControlGroups } from './drivers/firecracker/control-groups.ts';
import { readOwnRights, vmUser } from './drivers/qemu-confinement.ts';
import { isOurs, processName } from './drivers/vmm-process.ts';
import type { Exec } from './exec.ts';
import { namesIn } from './files.ts';
import {
  findProcessesByArguments,
  hostBootId,
  identifyProcess,
  isAlive,
  killProcess,
  signalProcess,
  type ProcessIdentity,
} from './process.ts';

/**
 * What is made for a moment, to find out whether something works here: a directory, and what is named after its id: a
 * VMM, devices, control groups. All of it goes with the directory, and is found by whoever comes later if its owner
 * was killed.
 */
export interface TrialPlace {
  readonly directory: string;
  /** Nobody else's, and shaped as one of a VM: users and addresses are made of it */
  readonly id: string;
}

const kinds = {
  probe: 'banger-probe-',
  // With a socket in it, it is to be no longer than a VM's own socket.
  sockets: '.p-',
  doctor: 'banger-doctor-',
  disk: '.disk-probe-',
} as const;

interface Note {
  readonly id: string;
  readonly owner: ProcessIdentity;
  /** In which the owner has its pid: another one's processes are not seen from here */
  readonly pidNamespace: string;
}

const noteName = 'owner.json';

export function makeTrialPlace(parent: string, kind: keyof typeof kinds): TrialPlace {
  const id = `${randomBytes(6).toString('hex')}-${kind}`;
  const directory = mkdtempSync(join(parent, kinds[kind]));
  const note: Note = { id, owner: identifyProcess(process.pid)!, pidNamespace: pidNamespace() };
  try {
    writeFileSync(join(directory, noteName), JSON.stringify(note), { mode: 0o600 });
  } catch (error) {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
  return { directory, id };
}

/** Removes one with all that is named after it. Throws `busy` when somebody holds a device of its, and keeps it then. */
export async function removeTrialPlace(exec: Exec, directory: string): Promise<void> {
  const found = filesOf(directory);
  for (const identity of vmmsOf(found)) await killProcess(identity);
  for (const { id } of notesOf(found)) await removeControlGroups(id);
  await takeDownDevices(exec, directory);
  await rm(directory, { recursive: true, force: true });
}

/** Takes down the devices that are written down somewhere in a directory. */
export async function takeDownDevices(exec: Exec, directory: string): Promise<void> {
  for (const path of filesOf(directory).filter(isRecord)) await new DeviceStack(exec, path).takeDown();
}

/** The same for a process that ends now: one with devices is left for whoever comes next. */
export function removeTrialPlaceNow(directory: string): void {
  const found = filesOf(directory);
  for (const identity of vmmsOf(found)) signalProcess(identity, 'SIGKILL');
  if (!found.some(isRecord)) rmSync(directory, { recursive: true, force: true });
}

/** Removes those in some directories whose owners have gone. One that cannot be removed is told, and left. */
export async function removeLeftTrials(
  exec: Exec,
  parents: readonly string[],
  onFailure: (directory: string, error: unknown) => void,
): Promise<void> {
  for (const parent of new Set(parents)) {
    for (const name of await namesIn(parent)) {
      if (!Object.values(kinds).some((prefix) => name.startsWith(prefix))) continue;
      const directory = join(parent, name);
      try {
        if (isLeft(directory)) await removeTrialPlace(exec, directory);
      } catch (error) {
        onFailure(directory, error);
      }
    }
  }
}

/** Others may make such directories, too, where everybody may. */
function isLeft(directory: string): boolean {
  const status = lstatSync(directory, { throwIfNoEntry: false });
  if (!status?.isDirectory() || status.uid !== process.getuid!()) return false;
  const note = readNote(join(directory, noteName));
  if (!note || isAlive(note.owner)) return false;
  return note.owner.bootId !== hostBootId() || note.pidNamespace === pidNamespace();
}

function vmmsOf(found: readonly string[]): readonly ProcessIdentity[] {
  return notesOf(found)
    .flatMap(({ id }) => ['-name', '--id'].map((option) => ({ id, words: [option, processName(id)] })))
    .flatMap(({ id, words }) =>
      findProcessesByArguments(words).filter((pid) => isOurs(pid, vmUser(id, readOwnRights()))),
    )
    .map(identifyProcess)
    .filter((identity) => identity !== undefined);
}

function notesOf(found: readonly string[]): readonly Note[] {
  return found
    .filter((path) => path.endsWith(`/${noteName}`))
    .map(readNote)
    .filter((note) => note !== undefined);
}

function isRecord(path: string): boolean {
  return path.endsWith(recordSuffix);
}

/** How deep below a place there may be another one, or a disk. */
const depth = 2;

/** No link is followed. */
function filesOf(directory: string, level = 0): readonly string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
  return entries.flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isFile()) return [path];
    return entry.isDirectory() && level < depth ? filesOf(path, level + 1) : [];
  });
}

/** Undefined when its owner was killed before it had written it. */
function readNote(path: string): Note | undefined {
  try {
    const note = JSON.parse(readFileSync(path, 'utf8')) as Partial<Note>;
    return typeof note.id === 'string' && typeof note.owner?.pid === 'number' ? (note as Note) : undefined;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid');
}
