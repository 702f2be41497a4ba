import { Command } from 'commander';
import type { ResultOf } from '../engine/rpc/method.ts';
import { vmPorts } from '../engine/rpc/vm-stats-methods.ts';
import type { Cli } from './cli.ts';
import { renderTable } from './table.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';

export function vmPortsCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('ports').description(
      'Show what listens in running VMs, and where on this host it is reached',
    ),
  );
  return command
    .addHelpText('after', '\nExample:\n  banger vm ports web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm) => cli.call(vmPorts, { vm }),
        (one) => portsText([one]),
        { allText: portsText },
      ),
    );
}

function portsText(vms: readonly ResultOf<typeof vmPorts>[]): string {
  const rows = vms.flatMap(({ name, ports }) =>
    ports.map((port) => [
      name,
      `${port.address.includes(':') ? `[${port.address}]` : port.address}:${port.port}/${port.protocol}`,
      port.process ? `${port.process} (${port.pid})` : '',
      port.published.join(', '),
    ]),
  );
  return renderTable(['VM', 'LISTENS ON', 'PROCESS', 'REACHED AT'], rows);
}
