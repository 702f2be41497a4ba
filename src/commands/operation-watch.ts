import { Command } from 'commander';
import { operationWatch } from '../engine/rpc/operation-methods.ts';
import { BangerError } from '../errors.ts';
import type { Cli } from './cli.ts';
import { operationTitle } from './operation-text.ts';
import { stagesText } from './vm-text.ts';

export function operationWatchCommand(cli: Cli): Command {
  return new Command('watch')
    .description('Follow an operation to its end; it goes on when you stop watching')
    .argument('<operation>', 'id of the operation')
    .addHelpText(
      'after',
      '\nThe exit code is the one its own command would have had.\n\nExample:\n  banger operation watch op-1a2-3',
    )
    .action(async (operation: string) => {
      const ended = await cli.call(operationWatch, { operation });
      if (ended.error)
        throw new BangerError(ended.error.code, ended.error.message, { hint: ended.error.hint });
      const stages = stagesText(ended.stages);
      cli.say(
        `${operationTitle(ended)}: ${ended.state} in ${ended.seconds.toFixed(1)} s${stages && ` (${stages})`}`,
      );
      cli.print(ended, () => ended.subject ?? ended.id);
    });
}
