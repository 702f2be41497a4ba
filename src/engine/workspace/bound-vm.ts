import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, posix } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import { shellQuote } from '../../host/shell-quote.ts';
import type { Database } from '../../state/database.ts';
import { findVm, getVm, resolveVm, type Vm } from '../../state/vms.ts';
import {
  findWorkspacesByHostPath,
  listWorkspaces,
  workspacesByVm,
  type Workspace,
} from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import { requireRunning } from '../lifecycle/exec-vm.ts';
import { shellWord } from '../../host/shell-quote.ts';

/** A VM and the working tree that is in it. */
export interface BoundVm {
  readonly vm: Vm;
  readonly workspace: Workspace;
}

/** Finds the VM a working tree was last sent to; a running one is preferred, then one that can be started. */
export function findBoundVm(
  db: Database,
  hostPath: string,
  isWanted: (bound: BoundVm) => boolean = () => true,
): BoundVm | undefined {
  const bound = findWorkspacesByHostPath(db, hostPath).flatMap((workspace): BoundVm[] => {
    const vm = findVm(db, workspace.vmId);
    return vm && isWanted({ vm, workspace }) ? [{ vm, workspace }] : [];
  });
  return (
    bound.find(({ vm }) => vm.state === 'running') ??
    bound.find(({ vm }) => vm.state !== 'deleting' && vm.state !== 'creating')
  );
}

/** The VM that a tree is sent to again. That of a `vm run` belongs to the run, and goes with it. */
export function findReusableVm(db: Database, hostPath: string): BoundVm | undefined {
  return findBoundVm(db, hostPath, ({ vm }) => !vm.ephemeral);
}

export interface WantedWorkspace {
  /** A directory of the tree on the host */
  readonly path?: string;
  readonly vm?: string;
  /** Where it is in the VM: one tree may be in several places there */
  readonly guestPath?: string;
}

/**
 * Finds the workspace a user means: of the tree that holds `path`, of the VM given, or of both. `command` is what they
 * have typed, for hints.
 * Throws `not_found` when nothing was sent, `invalid_argument` when what is given does not decide it.
 */
export async function resolveWorkspace(
  db: Database,
  wanted: WantedWorkspace,
  command: 'apply' | 'export' | 'remote',
): Promise<BoundVm> {
  const vm = wanted.vm === undefined ? undefined : resolveVm(db, wanted.vm);
  const path = wanted.path === undefined ? undefined : await resolvedPath(wanted.path);
  const guestPath = wanted.guestPath === undefined ? undefined : normalGuestPath(wanted.guestPath);
  if (path === undefined) {
    if (vm) return onlyWorkspace(vm, listWorkspaces(db, vm.id), { guestPath, command });
    throw new BangerError('invalid_argument', 'Neither a path nor a VM was given');
  }
  const isThere = ({ workspace }: BoundVm): boolean =>
    guestPath === undefined || workspace.guestPath === guestPath;
  for (const directory of withParents(path)) {
    const found = vm ? { vm } : (findBoundVm(db, directory, isThere) ?? findBoundVm(db, directory));
    const there = found ? listWorkspaces(db, found.vm.id) : [];
    const same = there.filter((each) => each.hostPath === directory);
    if (!found || same.length === 0) continue;
    // A mistyped path is none of the tree around it.
    if (directory !== path && existsSync(directory) && !existsSync(path)) {
      throw new BangerError('not_found', `There is no "${path}" in the tree "${directory}"`, {
        hint: `Name the tree or a directory in it: ${directory}`,
      });
    }
    return onlyWorkspace(found.vm, same, { guestPath, path, command });
  }
  throw new BangerError('not_found', `"${path}" has not been sent to ${vm ? `VM "${vm.name}"` : 'any VM'}`, {
    hint: notSentHint(db, path, vm),
  });
}

/** How it is sent and, where another tree was, how the changes of that get here. */
function notSentHint(db: Database, path: string, vm: Vm | undefined): string {
  const send = `Send it with: banger workspace prepare ${shellWord(path)}${vm ? ` --vm ${vm.name}` : ''}`;
  const others = vm ? listWorkspaces(db, vm.id) : [...workspacesByVm(db).values()].flat();
  const [other, ...more] = others;
  const name = other && findVm(db, other.vmId)?.name;
  if (other === undefined || name === undefined || more.length > 0) return send;
  return `${send}; for what VM "${name}" changed in "${other.hostPath}": banger workspace export --vm ${name} | git apply -3`;
}

/** Waits for the operation under way on a VM and returns the VM as it is then; throws unless it runs. */
export async function awaitRunningVm(
  { db, locks }: Pick<WorkspaceContext, 'db' | 'locks'>,
  id: string,
  signal: AbortSignal,
): Promise<Vm> {
  const vm = await locks.vm.run(id, signal, async () => getVm(db, id));
  requireRunning(vm);
  return vm;
}

/** The one of a VM's workspaces that is meant. `path`: what was given to choose them by. */
function onlyWorkspace(
  vm: Vm,
  workspaces: readonly Workspace[],
  { guestPath, path, command }: Pick<WantedWorkspace, 'guestPath' | 'path'> & { readonly command: string },
): BoundVm {
  const fitting = workspaces.filter((each) => guestPath === undefined || each.guestPath === guestPath);
  const [workspace, ...others] = fitting;
  if (workspace && others.length === 0) return { vm, workspace };
  const [first] = workspaces;
  if (!first) {
    throw new BangerError('not_found', `VM "${vm.name}" has no workspace`, {
      hint: `Send a git working tree with: banger workspace prepare . --vm ${vm.name}`,
    });
  }
  const places = workspaces.map((each) => `"${each.hostPath}" in "${each.guestPath}"`).join(', ');
  const words = [command, ...(path === undefined ? [] : [path]), '--vm', vm.name];
  const hint = `Name one: ${shellQuote(['banger', 'workspace', ...words, '--guest-path', first.guestPath])}`;
  if (workspace) {
    const what = path === undefined ? 'has several workspaces' : 'has that tree in several places';
    throw new BangerError('invalid_argument', `VM "${vm.name}" ${what}: ${places}`, { hint });
  }
  const what = path === undefined ? 'no workspace' : `no workspace of "${path}"`;
  throw new BangerError('not_found', `VM "${vm.name}" has ${what} in "${guestPath}", but ${places}`, {
    hint,
  });
}

/** As it was normalised when the tree was sent. */
function normalGuestPath(path: string): string {
  return posix.normalize(path).replace(/(?<=.)\/+$/, '');
}

/** Symlinks resolved, as the record has it; a tree that is gone from the host can still be exported. */
async function resolvedPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return path;
    throw error;
  }
}

function withParents(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...withParents(parent)];
}
