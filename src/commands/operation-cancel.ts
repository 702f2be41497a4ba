import { Command } from 'commander';
import { operationCancel } from '../engine/rpc/operation-methods.ts';
import { BangerError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { operationTitle, undoneText } from './operation-text.ts';

export function operationCancelCommand(cli: Cli): Command {
  return new Command('cancel')
    .description('Cancel operations, and wait until what they did is undone')
    .argument('<operation...>', 'ids of operations under way')
    .addHelpText('after', '\nExample:\n  banger operation cancel op-1a2-3')
    .action((ids: string[]) =>
      cli.forEach(
        ids,
        async (operation) => {
          const ended = await cli.call(operationCancel, { operation });
          if (ended.state === 'cancelled') return ended;
          throw new BangerError(
            'invalid_state',
            `${operationTitle(ended)} is ${ended.state}: it was too late to cancel it`,
            {
              hint: `See how it went with: banger operation show ${ended.id}`,
            },
          );
        },
        (ended) => `Cancelled ${operationTitle(ended)}; ${undoneText(ended)}`,
      ),
    );
}
