import { Command } from 'commander';
import { operationList, type OperationView } from '../engine/rpc/operation-methods.ts';
import type { Cli } from './cli.ts';
import { renderTable } from './table.ts';
import { ago } from './vm-text.ts';

export function operationListCommand(cli: Cli): Command {
  return new Command('list')
    .alias('ls')
    .description('List what the engine is doing, and what it did in the last hour')
    .option('--running', 'only what is under way')
    .option('-q, --quiet', 'ids only')
    .addHelpText('after', '\nExample:\n  banger operation list --running')
    .action(async (options: { running?: boolean; quiet?: boolean }) => {
      const all = (await cli.callIfRunning(operationList, {})) ?? [];
      const operations = options.running ? all.filter(({ state }) => state === 'running') : all;
      cli.print(operations, () =>
        options.quiet ? operations.map(({ id }) => id).join('\n') : listText(operations),
      );
    });
}

function listText(operations: readonly OperationView[]): string {
  return renderTable(
    ['OPERATION', 'KIND', 'SUBJECT', 'STATE', 'STAGE', 'SECONDS', 'STARTED'],
    operations.map((operation) => [
      operation.id,
      operation.kind,
      operation.subject ?? '',
      operation.state,
      operation.progress?.stage ?? '',
      operation.seconds.toFixed(1),
      ago(operation.startedAt),
    ]),
  );
}
