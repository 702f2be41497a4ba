import { Command } from 'commander';
import { vmList, type VmView } from '../engine/rpc/vm-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { shortName } from './image-text.ts';
import { renderTable } from './table.ts';
import { addLabelFilter, labelsOf, type VmSelection } from './vm-selection.ts';
import { ago, portText, socketText } from './vm-text.ts';

const mib = 1024 ** 2;

/** `vm list`, and `ps` for short. */
export function vmListCommand(cli: Cli, name = 'list'): Command {
  const command = addLabelFilter(new Command(name).description('List VMs'))
    .option('-q, --quiet', 'names only')
    .addHelpText('after', `\nExample:\n  banger ${name === 'list' ? 'vm list' : name} --json`)
    .action(async (options: VmSelection & { quiet?: boolean }) => {
      const vms = await cli.call(vmList, { labels: labelsOf(options) });
      cli.print(vms, () => (options.quiet ? vms.map((vm) => vm.name).join('\n') : listText(vms)));
      // For people: whoever reads columns is not to find a sentence below them.
      if (!options.quiet && cli.printsToTerminal) for (const line of vmmLines(vms)) cli.say(line);
    });
  return name === 'list' ? command.alias('ls') : command;
}

/** Why VMs run by what they run by, each reason once. */
function vmmLines(vms: readonly VmView[]): Iterable<string> {
  const explained = vms.filter(({ vmm, vmmReason }) => vmm !== undefined && vmmReason !== undefined);
  return new Set(explained.map(({ vmm, vmmReason }) => `${vmm}: ${vmmReason}`));
}

function listText(vms: readonly VmView[]): string {
  return renderTable(
    ['NAME', 'STATE', 'IMAGE', 'CPUS', 'MEMORY', 'VMM', 'NETWORK', 'PORTS', 'WORKSPACE', 'CREATED'],
    vms.map((vm) => [
      vm.name,
      vm.lastError ? `${vm.state} (!)` : vm.state,
      shortName(vm.image),
      String(vm.cpus),
      formatBytes(vm.memoryMib * mib),
      vm.vmm ?? '',
      vm.address === undefined ? vm.network : `${vm.network} (${vm.address})`,
      [...vm.ports.map(portText), ...vm.sockets.map(socketText)].join(', '),
      vm.workspaces[0]?.hostPath ?? '',
      ago(vm.createdAt),
    ]),
  );
}
