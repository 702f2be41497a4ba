import { Command } from 'commander';
import { engineStop } from '../engine/rpc/engine-methods.ts';
import type { Cli } from './cli.ts';

export function engineStopCommand(cli: Cli): Command {
  return new Command('stop')
    .description('End the engine once its work is done; VMs go on running')
    .addHelpText('after', '\nExample:\n  banger engine stop')
    .action(async () => {
      const stopped = await cli.callIfRunning(engineStop, {});
      cli.print({ stopped: stopped !== undefined }, () =>
        stopped ? 'The engine is stopping. VMs go on running.' : 'The engine is not running.',
      );
    });
}
