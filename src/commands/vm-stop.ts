import { Command } from 'commander';
import { vmStop } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { parseDuration } from './parse.ts';

export function vmStopCommand(cli: Cli): Command {
  return new Command('stop')
    .description('Flush the disks of running VMs and power them off')
    .argument('<vm...>', 'names or ids')
    .option(
      '-t, --timeout <duration>',
      'how long a guest may take to power off before it is ended',
      parseDuration,
      10_000,
    )
    .addHelpText('after', '\nExample:\n  banger vm stop web')
    .action((vms: string[], options: { timeout: number }) =>
      cli.forEach(
        vms,
        async (vm) => {
          const stopped = await cli.call(vmStop, { vm, timeoutMs: options.timeout });
          if (!stopped.flushed) cli.say(unflushedText(stopped.name));
          return stopped;
        },
        (vm) => vm.name,
      ),
    );
}

/** What users must know when a guest was killed with data it had not written. */
export function unflushedText(name: string): string {
  return `${name}: the guest did not answer and was killed; what it had not written to its disk is lost`;
}
