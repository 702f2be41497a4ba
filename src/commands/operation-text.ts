import type { OperationView } from '../engine/rpc/operation-methods.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';

/** `vm.create web` */
export function operationTitle({ kind, subject }: Pick<OperationView, 'kind' | 'subject'>): string {
  return printable(subject === undefined ? kind : `${kind} ${subject}`);
}

/** `undone: Starting VMM, Creating disk`; empty when nothing was */
export function undoneText({ undone }: Pick<OperationView, 'undone'>): string {
  return undone.length === 0 ? 'nothing had to be undone' : `undone: ${undone.map(printable).join(', ')}`;
}

/** Says that work goes on without us, and how to follow it. */
export function printDetached(cli: Cli, operation: string): void {
  cli.print({ operation }, () => operation);
  sayDetached(cli, operation);
}

function sayDetached(cli: Cli, operation: string): void {
  cli.say(`It goes on without this command. Follow it with: banger operation watch ${operation}`);
}

/** Starts the same for several names, and leaves all of it to go on without us. */
export async function detachEach(
  cli: Cli,
  names: readonly string[],
  detach: (name: string) => Promise<string>,
): Promise<void> {
  await cli.forEach(
    names,
    async (name) => ({ operation: await detach(name) }),
    ({ operation }) => {
      sayDetached(cli, operation);
      return operation;
    },
  );
}
