import { Command } from 'commander';
import { vmSet } from '../engine/rpc/vm-control-methods.ts';
import { vmShow, type VmView } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { collectPort, collectPortName, type PortName, type PortRequest } from './port-options.ts';
import { renderTable } from './table.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';
import { portText } from './vm-text.ts';

const help = `
Examples:
  banger vm port add web 8080:80         port 8080 of this host leads to 80 of the VM
  banger vm port add web 53:53/udp 443   443 on a port that is free here
  banger vm port list web
  banger vm port remove web 8080`;

export function vmPortCommand(cli: Cli): Command {
  return new Command('port')
    .description('Publish ports of VMs on this host, and take them back, also while they run')
    .enablePositionalOptions()
    .addHelpText('after', help)
    .addCommand(addCommand(cli))
    .addCommand(removeCommand(cli))
    .addCommand(listCommand(cli));
}

function addCommand(cli: Cli): Command {
  return new Command('add')
    .description('Lead ports of this host into a VM, on 127.0.0.1 unless another address is given')
    .argument('<vm>', 'name or id')
    .argument('<port...>', '[[ADDRESS:]PORT:]GUESTPORT[/udp]; without PORT, one that is free', collectPort)
    .addHelpText('after', '\nExample:\n  banger vm port add web 8080:80')
    .action(async (vm: string, publish: PortRequest[]) => {
      const done = await cli.call(vmSet, { vm, publish });
      cli.print(done, () =>
        done.ports
          .filter((port) => publish.some((asked) => isAnswerTo(port, asked)))
          .map(portText)
          .join('\n'),
      );
    });
}

type ShownPort = Parameters<typeof portText>[0];

function isAnswerTo(port: ShownPort, asked: PortRequest): boolean {
  return (
    port.protocol === asked.protocol &&
    port.bind === asked.bind &&
    port.guestPort === asked.guestPort &&
    (asked.hostPort === undefined || asked.hostPort === port.hostPort)
  );
}

function removeCommand(cli: Cli): Command {
  return new Command('remove')
    .alias('rm')
    .description('Let ports of this host no longer lead into a VM')
    .argument('<vm>', 'name or id')
    .argument('<port...>', 'PORT[/udp] of this host, also written as it was added', collectPortName)
    .addHelpText('after', '\nExample:\n  banger vm port remove web 8080')
    .action(async (vm: string, unpublish: PortName[]) => {
      const done = await cli.call(vmSet, { vm, unpublish });
      cli.print(done, () => unpublish.map(({ hostPort, protocol }) => `${hostPort}/${protocol}`).join('\n'));
    });
}

function listCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('list').alias('ls').description('Show which ports of this host lead into VMs, and where to'),
  );
  return command
    .addHelpText(
      'after',
      '\nExample:\n  banger vm port list web\n\nWhat listens in a VM:\n  banger vm ports web',
    )
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        async (vm) => {
          const { id, name, state, ports } = await cli.call(vmShow, { vm });
          return { id, name, state, ports };
        },
        (one) => publishedText([one]),
        { allText: publishedText },
      ),
    );
}

function publishedText(vms: readonly Pick<VmView, 'name' | 'ports'>[]): string {
  const rows = vms.flatMap(({ name, ports }) =>
    ports.map(({ bind, hostPort, guestPort, protocol, followed }) => [
      name,
      `${bind}:${hostPort}/${protocol}`,
      `${guestPort}/${protocol}${followed ? ', while it listens' : ''}`,
    ]),
  );
  return renderTable(['VM', 'HOST', 'GUEST'], rows);
}
