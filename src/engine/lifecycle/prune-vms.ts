import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errorText } from '../../errors.ts';
import { vmPaths } from '../../state/layout.ts';
import { findVm, listVms, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import type { vmPrune } from '../rpc/vm-control-methods.ts';
import { labelled } from '../vm-selection.ts';
import { deleteHeldVm } from './delete-vm.ts';

/**
 * Deletes stopped VMs. Each is looked at again under its lock, so that one that was started meanwhile stays; one that
 * cannot be deleted is told, and the others go.
 */
export async function pruneVms(
  context: EngineContext,
  params: ParsedParams<typeof vmPrune>,
  operation: Operation,
): Promise<ResultOf<typeof vmPrune>> {
  const wanted = params.ids && new Set(params.ids);
  const candidates = labelled(listVms(context.db), params.labels).filter(
    (vm) => isPrunable(vm) && (!wanted || wanted.has(vm.id)),
  );
  const removed = [];
  const failed = [];
  for (const vm of candidates) {
    const { id, name, imageName, stoppedAt } = vm;
    const item = { id, name, image: imageName, bytes: await usedBytes(context, id), stoppedAt };
    try {
      if (params.dryRun || (await deleteIfStopped(context, id, operation))) removed.push(item);
    } catch (error) {
      if (error instanceof BangerError && error.code === 'cancelled') throw error;
      failed.push({ id, name, message: errorText(error) });
    }
  }
  return { removed, failed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function isPrunable(vm: Vm | undefined): boolean {
  return vm?.state === 'stopped' && !vm.ephemeral;
}

async function deleteIfStopped(context: EngineContext, id: string, operation: Operation): Promise<boolean> {
  return context.locks.vm.run(id, operation.signal, async () => {
    if (!isPrunable(findVm(context.db, id))) return false;
    await deleteHeldVm(context, id, operation);
    return true;
  });
}

const blockBytes = 512;

/** Bytes that a VM's files take on the host; what vanishes meanwhile takes none. */
async function usedBytes(context: EngineContext, id: string): Promise<number> {
  const { directory } = vmPaths(context.layout, id);
  const names = await readdir(directory).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      lstat(join(directory, name)).then(
        ({ blocks }) => blocks * blockBytes,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
