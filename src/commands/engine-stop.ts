import { Command } from 'commander';
import { engineStop } from '../engine/rpc/engine-methods.ts';
import type { Cli } from './cli.ts';

export function engineStopCommand(cli: Cli): Command {
  return new Command('stop')
    .description('End the engine; VMs go on running')
    .option('-f, --force', 'cancel what it is doing')
    .addHelpText('after', '\nExample:\n  banger engine stop')
    .action(async (options: { force?: boolean }) => {
      const stopped = await cli.callLast(engineStop, { force: options.force ?? false });
      cli.print({ stopped: stopped !== undefined }, () =>
        stopped ? 'The engine has ended. VMs go on running.' : 'The engine is not running.',
      );
    });
}
