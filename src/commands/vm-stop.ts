import { Command } from 'commander';
import { vmStop, type vmRestart, type VmView } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';
import { parseDuration } from './parse.ts';

export function vmStopCommand(cli: Cli): Command {
  return stoppingCommand(cli, vmStop, {
    name: 'stop',
    description: 'Flush the disks of running VMs and power them off',
  });
}

/** What `stop` and `restart` have in common: several VMs, a timeout, and a word about those that had to be killed. */
export function stoppingCommand(
  cli: Cli,
  method: typeof vmStop | typeof vmRestart,
  { name, description }: { readonly name: string; readonly description: string },
): Command {
  const command = addVmSelection(new Command(name).description(description));
  return command
    .option(
      '-t, --timeout <duration>',
      'how long a guest may take to power off before it is ended',
      parseDuration,
      10_000,
    )
    .addHelpText('after', `\nExample:\n  banger vm ${name} web`)
    .action((vms: string[], options: VmSelection & { timeout: number }) =>
      forEachVm(
        cli,
        { vms, options, command },
        async (vm, subject) => {
          const stopped = await cli.call(method, { vm, timeoutMs: options.timeout }, subject);
          if (!stopped.flushed) cli.say(unflushedText(stopped));
          return stopped;
        },
        (vm) => vm.name,
      ),
    );
}

/** One that was started again no longer says why it had ended. */
function unflushedText({ name, lastError }: VmView): string {
  return `${name}: ${lastError ?? 'The guest was ended before it had flushed its disks; what it had not written is lost'}`;
}
