import { readdir, rm } from 'node:fs/promises';
import { errorText } from '../errors.ts';
import { dmSnapshot } from '../host/disks/dm-snapshot.ts';
import type { Unowned } from '../host/doctor/unowned.ts';
import { writeFileAtomic } from '../host/files.ts';
import { killProcess } from '../host/process.ts';
import { vmPaths } from '../state/layout.ts';
import { listVms } from '../state/vms.ts';
import type { EngineContext } from './context.ts';
import { removeVmDirectory } from './lifecycle/vm-directory.ts';
import { findVmm } from './vmm-drivers.ts';

/**
 * Removes directories and VMMs named after ids that the database does not know. Anything else found there is not ours.
 *
 * One with a disk in it is left with its VMM, and returned. A VM's row is there before its disk is and goes after it, so
 * that the database must have lost it: a copy of it was put back. With the right one everything is there again.
 */
export async function removeOrphans(context: EngineContext): Promise<Unowned[]> {
  const known = new Set(listVms(context.db).map((vm) => vm.id));
  const entries = await readdir(context.layout.vmsDirectory).catch(() => []);
  const lost: Unowned[] = [];
  for (const id of entries.filter((name) => /^[0-9a-f]{32}$/.test(name) && !known.has(name))) {
    try {
      const { directory } = vmPaths(context.layout, id);
      if (await hasDisk(directory)) {
        lost.push({ kind: 'vm', path: directory, process: findVmm(context, id)?.process });
        continue;
      }
      context.log('warn', 'removing a VM directory that no VM owns', { vm: id });
      await removeOrphan(context, id);
    } catch (error) {
      context.log('error', `VM directory without an owner was left: ${errorText(error)}`, { vm: id });
    }
  }
  return lost;
}

export function unowned(kind: Unowned['kind'], paths: readonly string[]): Unowned[] {
  return paths.map((path) => ({ kind, path }));
}

/** Writes down for `banger doctor` what the database has lost, and says it in the log. */
export async function noteUnowned(context: EngineContext, lost: readonly Unowned[]): Promise<void> {
  for (const { kind, path, process } of lost) {
    context.log('warn', 'the database does not know what is there; it is left', {
      kind,
      path,
      pid: process?.pid,
    });
  }
  const { unownedNote } = context.layout;
  try {
    if (lost.length === 0) await rm(unownedNote, { force: true });
    else await writeFileAtomic(unownedNote, `${JSON.stringify(lost, undefined, 2)}\n`, 0o600);
  } catch (error) {
    // On a disk that is full, say. The log has it, and no VM waits for it.
    context.log('warn', `what the database does not know was not written down: ${errorText(error)}`);
  }
}

async function hasDisk(directory: string): Promise<boolean> {
  return (await readdir(directory)).some((name) => name.startsWith('disk.'));
}

async function removeOrphan(context: EngineContext, id: string): Promise<void> {
  const vmm = findVmm(context, id);
  if (vmm) await killProcess(vmm.process);
  const { controlSocket, disk } = vmPaths(context.layout, id);
  await dmSnapshot(context.exec).detach({ id, path: disk('dm-snapshot') });
  await removeVmDirectory(context.layout, { id, controlSocket });
}
