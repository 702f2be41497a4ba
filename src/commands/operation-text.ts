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
  cli.say(`It goes on without this command. Follow it with: banger operation watch ${operation}`);
}
