import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
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

/** A VM and the working tree that is in it. */
export interface BoundVm {
  readonly vm: Vm;
  readonly workspace: Workspace;
}

/** Finds the VM a working tree was last sent to; a running one is preferred, then one that can be started. */
export function findBoundVm(
  db: Database,
  hostPath: string,
  isWanted: (vm: Vm) => boolean = () => true,
): BoundVm | undefined {
  const bound = findWorkspacesByHostPath(db, hostPath).flatMap((workspace): BoundVm[] => {
    const vm = findVm(db, workspace.vmId);
    return vm && isWanted(vm) ? [{ vm, workspace }] : [];
  });
  return (
    bound.find(({ vm }) => vm.state === 'running') ??
    bound.find(({ vm }) => vm.state !== 'deleting' && vm.state !== 'creating')
  );
}

/** The VM that a tree is sent to again. That of a `vm run` belongs to the run, and goes with it. */
export function findReusableVm(db: Database, hostPath: string): BoundVm | undefined {
  return findBoundVm(db, hostPath, (vm) => !vm.ephemeral);
}

/**
 * Finds the workspace a user means: of the tree that holds `path`, of the VM given, or of both.
 * Throws `not_found` when nothing was sent, `invalid_argument` when the VM alone does not decide it.
 */
export async function resolveWorkspace(
  db: Database,
  wanted: { readonly path?: string; readonly vm?: string },
): Promise<BoundVm> {
  const vm = wanted.vm === undefined ? undefined : resolveVm(db, wanted.vm);
  const path = wanted.path === undefined ? undefined : await resolvedPath(wanted.path);
  if (path === undefined) {
    if (vm) return onlyWorkspace(db, vm);
    throw new BangerError('invalid_argument', 'Neither a path nor a VM was given');
  }
  for (const directory of withParents(path)) {
    const workspace = vm && listWorkspaces(db, vm.id).find((each) => each.hostPath === directory);
    const bound = vm ? workspace && { vm, workspace } : findBoundVm(db, directory);
    if (!bound) continue;
    // A mistyped path is none of the tree around it.
    if (directory !== path && existsSync(directory) && !existsSync(path)) {
      throw new BangerError('not_found', `There is no "${path}" in the tree "${directory}"`, {
        hint: `Name the tree or a directory in it: ${directory}`,
      });
    }
    return bound;
  }
  throw new BangerError('not_found', `"${path}" has not been sent to ${vm ? `VM "${vm.name}"` : 'any VM'}`, {
    hint: notSentHint(db, path, vm),
  });
}

/** How it is sent and, where another tree was, how the changes of that get here. */
function notSentHint(db: Database, path: string, vm: Vm | undefined): string {
  const send = `Send it with: banger workspace prepare ${path}${vm ? ` --vm ${vm.name}` : ''}`;
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

function onlyWorkspace(db: Database, vm: Vm): BoundVm {
  const [workspace, ...others] = listWorkspaces(db, vm.id);
  if (workspace && others.length === 0) return { vm, workspace };
  if (!workspace) {
    throw new BangerError('not_found', `VM "${vm.name}" has no workspace`, {
      hint: `Send a git working tree with: banger workspace prepare . --vm ${vm.name}`,
    });
  }
  const paths = [workspace, ...others].map((each) => `"${each.hostPath}"`).join(', ');
  throw new BangerError('invalid_argument', `VM "${vm.name}" has several workspaces: ${paths}`, {
    hint: `Name one: banger workspace export ${workspace.hostPath} --vm ${vm.name}`,
  });
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
