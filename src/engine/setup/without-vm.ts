import { BangerError } from '../../errors.ts';
import type { Vm } from '../../state/vms.ts';

/** An error about a VM that has been deleted because of it: a way out that leads through the VM is none any more. */
export function withoutVm(error: unknown, { name }: Pick<Vm, 'name'>, wayOut: string): unknown {
  if (!(error instanceof BangerError) || !error.hint?.includes(name)) return error;
  return new BangerError(error.code, error.message, {
    hint: `That VM was deleted again. ${wayOut}`,
    cause: error,
  });
}
