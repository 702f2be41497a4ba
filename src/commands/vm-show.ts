import { Command } from 'commander';
import { vmShow } from '../engine/rpc/vm-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';
import { vmText } from './vm-text.ts';

/** `by user 1879048193, seccomp; not by a jail` */
function confinementText(
  confinement: { readonly has: readonly string[]; readonly lacks: readonly string[] } | undefined,
): string {
  if (!confinement) return '';
  const { has, lacks } = confinement;
  const words = [
    ...(has.length > 0 ? [`by ${has.join(', ')}`] : []),
    ...(lacks.length > 0 ? [`not by ${lacks.join(', ')}`] : []),
  ];
  return `\nConfined:   ${printable(words.join('; '))}`;
}

export function vmShowCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('show').alias('inspect').description('Show everything about VMs'),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm show web --json')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm) => cli.call(vmShow, { vm }),
        (vm) => {
          const phases = Object.entries(vm.bootPhases ?? {}).map(
            ([phase, seconds]) => `${phase} ${seconds.toFixed(2)} s`,
          );
          const boot =
            phases.length === 0 ? '' : `\nBoot:       ${phases.join(', ')} after the kernel started`;
          const { hostPath, file } = vm.template ?? {};
          const template =
            file === undefined ? '' : `\nTemplate:   ${printable(`${hostPath}/${file}`)}, as it was then`;
          return `${vmText(vm)}${confinementText(vm.confinement)}\nKernel:     ${printable(vm.kernel)}\nDisk used:  ${formatBytes(vm.diskUsedBytes)} (${printable(vm.diskMethod)})${template}${boot}\n`;
        },
      ),
    );
}
