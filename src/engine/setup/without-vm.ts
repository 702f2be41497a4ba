import { BangerError } from '../../errors.ts';
import type { Vm } from '../../state/vms.ts';
import { NoRoomError } from '../workspace/sending/check-room.ts';

/** An error about a VM for a tree that has been deleted because of it: a way out that leads through the VM is none any more. */
export function withoutVm(error: unknown, { name }: Pick<Vm, 'name'>, path: string): unknown {
  if (!(error instanceof BangerError) || !error.hint?.includes(name)) return error;
  const wayOut =
    error instanceof NoRoomError
      ? `Give one a larger disk: banger vm run --keep --disk ${error.diskSize} ${path}`
      : `To keep one, and look around in it: banger vm run --keep ${path}`;
  return new BangerError(error.code, error.message, {
    hint: `That VM was deleted again. ${wayOut}`,
    cause: error,
  });
}
