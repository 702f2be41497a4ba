import { Command, Option } from 'commander';
import { vmWait, waitTargets } from '../engine/rpc/vm-control-methods.ts';
import type { Cli } from './cli.ts';
import { parseDuration } from './parse.ts';
import { printable } from '../printable.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

interface WaitOptions extends VmSelection {
  readonly for: (typeof waitTargets)[number];
  readonly timeout?: number;
}

export function vmWaitCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('wait').description('Wait until VMs have stopped, or are as asked for, and say why'),
  );
  return command
    .addOption(
      new Option('--for <state>', 'what to wait for; ready: its guest answers')
        .choices(waitTargets)
        .default('stopped'),
    )
    .option('-t, --timeout <duration>', 'how long to wait (default: as long as it takes)', parseDuration)
    .addHelpText('after', '\nExample:\n  banger vm wait web --timeout 10m')
    .action((vms: string[], options: WaitOptions) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmWait, { vm, for: options.for, timeoutMs: options.timeout }, subject),
        ({ name, state, reason }) => `${name}: ${state}${reason ? ` (${printable(reason)})` : ''}`,
      ),
    );
}
