import { Command } from 'commander';
import { vmRestart } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { parseDuration } from './parse.ts';
import { unflushedText } from './vm-stop.ts';

export function vmRestartCommand(cli: Cli): Command {
  return new Command('restart')
    .description('Stop VMs, then start them again')
    .argument('<vm...>', 'names or ids')
    .option(
      '-t, --timeout <duration>',
      'how long a guest may take to power off before it is ended',
      parseDuration,
      10_000,
    )
    .addHelpText('after', '\nExample:\n  banger vm restart web')
    .action((vms: string[], options: { timeout: number }) =>
      cli.forEach(
        vms,
        async (vm) => {
          const restarted = await cli.call(vmRestart, { vm, timeoutMs: options.timeout });
          if (!restarted.flushed) cli.say(unflushedText(restarted.name));
          return restarted;
        },
        (vm) => vm.name,
      ),
    );
}
