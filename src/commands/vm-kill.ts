import { Command, InvalidArgumentError } from 'commander';
import { vmKill, vmSignals, type VmSignal } from '../engine/rpc/vm-control-methods.ts';
import type { Cli } from './cli.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

const help = `
Signals:
  KILL                       end it at once, like pulling the plug (the default)
  TERM, INT, QUIT, HUP, PWR  ask the guest to power off, as its power button does, and do not wait
  STOP, CONT                 pause and resume it

Example:
  banger vm kill --signal TERM web && banger vm wait web`;

export function vmKillCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('kill').description('End VMs at once; what they have not written is lost'),
  );
  return command
    .option('-s, --signal <signal>', 'what to send instead of KILL, by name or number', parseSignal, 'KILL')
    .addHelpText('after', help)
    .action((vms: string[], options: VmSelection & { signal: VmSignal }) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm, subject) => cli.call(vmKill, { vm, signal: options.signal }, subject),
        (vm) => vm.name,
      ),
    );
}

/** Numbers as Linux has them, for people's fingers. */
const numbers: Readonly<Record<string, VmSignal>> = {
  1: 'HUP',
  2: 'INT',
  3: 'QUIT',
  9: 'KILL',
  15: 'TERM',
  18: 'CONT',
  19: 'STOP',
  30: 'PWR',
};

function parseSignal(text: string): VmSignal {
  const name = text.toUpperCase().replace(/^SIG/, '');
  const signal = numbers[name] ?? vmSignals.find((known) => known === name);
  if (signal) return signal;
  throw new InvalidArgumentError(`A VM can be sent ${vmSignals.join(', ')}.`);
}
