import { homedir } from 'node:os';
import { errorText } from '../../errors.ts';
import type { FileSync } from '../../state/file-sync.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import type { Operation } from '../operations.ts';
import { placeFiles } from './place-files.ts';
import { lookAtFile, type ReadableFile } from './readable-files.ts';

type Wish = Pick<Vm, 'fileSync' | 'takesConfigFiles'>;

/** What of the host a VM gets at its next start. Its own come last, so that they win where two go to one place. */
export function syncedFiles(configured: readonly FileSync[], vm: Wish): FileSync[] {
  const own = vm.fileSync.map((file) => ({ ...file, optional: false }));
  const all = [...(vm.takesConfigFiles ? configured : []), ...own];
  return [...new Map(all.map((file) => [file.guest, file])).values()];
}

/** Throws when something that a VM is to get cannot be sent. */
export async function checkSyncedFiles(context: Pick<EngineContext, 'config'>, vm: Wish): Promise<void> {
  await readable(syncedFiles(context.config().fileSync, vm), rethrow);
}

/**
 * Copies of the user's files, such as dotfiles and credentials, which arrive at each start. What cannot be sent keeps a
 * VM from being made; one that exists starts without it, and the user is told: its work must not be locked in by a file
 * that has gone.
 */
export const fileSync: Capability = {
  name: 'file sync',
  checkRequest: checkSyncedFiles,
  async afterStart(context, vm, operation) {
    const wanted = syncedFiles(context.config().fileSync, vm);
    if (wanted.length === 0) return;
    operation.enter('Sending files');
    const complain = vm.startedAt === undefined ? rethrow : teller(context, vm, operation);
    const { files, notes } = await readable(wanted, complain);
    for (const note of notes) operation.note?.(note);
    if (files.length === 0) return;
    try {
      const guest = await context.guest(vm, operation.signal);
      await placeFiles(guest, files, { signal: operation.signal, vmName: vm.name });
    } catch (error) {
      if (operation.signal.aborted) throw error;
      complain(error);
    }
  },
};

async function readable(
  wanted: readonly FileSync[],
  complain: (error: unknown) => void,
): Promise<{ files: ReadableFile[]; notes: Set<string> }> {
  const home = homedir();
  const budget = { bytes: 0, files: 0 };
  const notes = new Set<string>();
  const files: ReadableFile[] = [];
  for (const file of wanted) {
    try {
      const found = await lookAtFile(file, { home, budget, notes });
      if (found) files.push(found);
    } catch (error) {
      complain(error);
    }
  }
  return { files, notes };
}

function rethrow(error: unknown): never {
  throw error;
}

function teller(context: EngineContext, vm: Vm, operation: Operation): (error: unknown) => void {
  return (error) => {
    const sentence = `Started without some files of this host: ${errorText(error)}`;
    operation.note?.(`Warning: ${sentence}`);
    context.log('warn', sentence, { vm: vm.id });
  };
}
