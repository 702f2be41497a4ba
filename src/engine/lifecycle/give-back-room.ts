import { stat } from 'node:fs/promises';
import { BangerError, errorText } from '../../errors.ts';
import type { Exec } from '../../host/exec.ts';
import { syncFile } from '../../host/files.ts';
import { findVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { DamagedFilesystem } from '../images/ext4-reader/damage.ts';
import { readFreeSpace, type ByteRange } from '../images/ext4-reader/free-space.ts';
import { withoutLocks } from '../locks.ts';
import { hasVmm } from './settle-vm.ts';

/** Smaller ones are most of the work and little of the room. */
const minRangeBytes = 1024 * 1024;
/** Each is a program's run of a few milliseconds: the largest come first. */
const maxRanges = 256;
/** The next stop goes on where this one ends. */
const timeBudgetMs = 10_000;
const diskBlockBytes = 512;

/**
 * Gives the host back what a guest has deleted, where its VMM passes no discards on: Firecracker's. In the background of
 * a stop, and never of a VM that runs; whoever starts or deletes it ends that.
 */
export function giveBackRoomLater(
  context: EngineContext,
  vm: Pick<Vm, 'id' | 'diskMethod'>,
  path: string,
): void {
  const isPlainFile = vm.diskMethod === 'reflink' || vm.diskMethod === 'copy';
  if (!isPlainFile || context.handles.get(vm.id)?.driver !== 'firecracker') return;
  void withoutLocks(() => giveBackWhenStopped(context, vm.id, path)).catch((error: unknown) =>
    context.log('warn', `room of a disk was not given back: ${errorText(error)}`, { vm: vm.id }),
  );
}

async function giveBackWhenStopped(context: EngineContext, id: string, path: string): Promise<void> {
  const give = async (signal: AbortSignal): Promise<void> => {
    const vm = context.db.open ? findVm(context.db, id) : undefined;
    if (vm?.state !== 'stopped' || hasVmm(context, vm)) return;
    const bytes = await giveBackRoom(context.exec, path, signal);
    if (bytes > 0) context.log('info', 'room of a disk was given back', { vm: id, bytes });
  };
  try {
    await context.haste.idly(id, async (wanted) => {
      const signal = AbortSignal.any([wanted, AbortSignal.timeout(timeBudgetMs)]);
      await context.locks.vm.run(id, signal, () => give(signal));
    });
  } catch (error) {
    // Somebody wants the VM, or it takes too long: what is done stays.
    if (!isLeftUndone(error)) throw error;
  }
}

function isLeftUndone(error: unknown): boolean {
  // A disk that is no ext4, or was not left as one should be, is as it is.
  if (error instanceof DamagedFilesystem) return true;
  return error instanceof BangerError && (error.code === 'cancelled' || error.code === 'timeout');
}

/**
 * Makes holes in a disk's file where its filesystem has nothing; returns how much room that gave. Nobody may have the
 * file open. What it shares with an image stays the image's: a hole is one of this file alone.
 */
export async function giveBackRoom(exec: Exec, path: string, signal: AbortSignal): Promise<number> {
  const before = await allocatedBytes(path);
  const wanted = (await readFreeSpace(path, signal))
    .filter(({ length }) => length >= minRangeBytes)
    .toSorted((one, other) => other.length - one.length)
    .slice(0, maxRanges);
  for (const range of wanted) await punch(exec, path, { range, signal });
  await syncFile(path);
  return Math.max(0, before - (await allocatedBytes(path)));
}

async function punch(
  exec: Exec,
  path: string,
  { range, signal }: { readonly range: ByteRange; readonly signal: AbortSignal },
): Promise<void> {
  const place = ['--offset', String(range.offset), '--length', String(range.length)];
  await exec(['fallocate', '--punch-hole', ...place, path], { signal });
}

async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * diskBlockBytes;
}
