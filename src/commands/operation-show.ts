import { Command } from 'commander';
import { operationShow, type OperationView } from '../engine/rpc/operation-methods.ts';
import type { Cli } from './cli.ts';
import { operationTitle, undoneText } from './operation-text.ts';
import { printable } from '../printable.ts';

export function operationShowCommand(cli: Cli): Command {
  return new Command('show')
    .alias('inspect')
    .description('Show operations with their stages, and why one failed')
    .argument('<operation...>', 'ids; finished ones are kept for an hour, while the engine runs')
    .addHelpText('after', '\nExample:\n  banger operation show op-1a2-3 --json')
    .action((ids: string[]) =>
      cli.forEach(ids, (operation) => cli.call(operationShow, { operation }), showText),
    );
}

function showText(operation: OperationView): string {
  const { id, state, stages, seconds, startedAt, error } = operation;
  const lines = [
    `Operation:  ${id}`,
    `What:       ${operationTitle(operation)}`,
    `State:      ${state}, ${seconds.toFixed(1)} s`,
    `Started:    ${startedAt}`,
    ...stages.map(({ stage, seconds: took }) => `  ${took.toFixed(3).padStart(9)} s  ${printable(stage)}`),
  ];
  if (error) lines.push(`Error:      ${printable(error.message)} (${error.code})`);
  if (error?.hint) lines.push(`            ${printable(error.hint)}`);
  if (error) lines.push(`Undo:       ${undoneText(operation)}`);
  return `${lines.join('\n')}\n`;
}
