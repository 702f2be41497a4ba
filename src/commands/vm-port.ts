import { Command } from 'commander';
import { vmSet } from '../engine/rpc/vm-control-methods.ts';
import { vmShow, type VmView } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import {
  publishCollector,
  publishedNameCollector,
  publishParams,
  publishSyntax,
  unpublishParams,
  type Published,
  type PublishedName,
} from './port-options.ts';
import { renderTable } from './table.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';
import { portText, socketText } from './vm-text.ts';

const help = `
Examples:
  banger vm port add web 8080:80         port 8080 of this host leads to 80 of the VM
  banger vm port add web 53:53/udp 443   443 on a port that is free here
  banger vm port add web ./docker.sock:/run/docker.sock
  banger vm port list web
  banger vm port remove web 8080`;

export function vmPortCommand(cli: Cli): Command {
  return new Command('port')
    .description(
      'Publish ports and Unix sockets of VMs on this host, and take them back, also while they run',
    )
    .enablePositionalOptions()
    .addHelpText('after', help)
    .addCommand(addCommand(cli))
    .addCommand(removeCommand(cli))
    .addCommand(listCommand(cli));
}

function addCommand(cli: Cli): Command {
  return new Command('add')
    .description(
      'Lead ports (on 127.0.0.1 unless another address is given) and Unix sockets of this host into a VM',
    )
    .argument('<vm>', 'name or id')
    .argument('<port...>', `${publishSyntax}; without PORT, one that is free`, publishCollector(cli.cwd))
    .addHelpText('after', '\nExample:\n  banger vm port add web 8080:80')
    .action(async (vm: string, asked: Published[]) => {
      const { publish, publishSockets } = publishParams(asked);
      const done = await cli.call(vmSet, { vm, publish, publishSockets });
      cli.print(done, () =>
        [
          ...done.ports.filter((port) => publish.some((one) => isAnswerTo(port, one))).map(portText),
          ...publishSockets.map(socketText),
        ].join('\n'),
      );
    });
}

type ShownPort = Parameters<typeof portText>[0];

function isAnswerTo(port: ShownPort, asked: ReturnType<typeof publishParams>['publish'][number]): boolean {
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
    .description('Let ports and sockets of this host no longer lead into a VM')
    .argument('<vm>', 'name or id')
    .argument(
      '<port...>',
      'PORT[/udp] or socket of this host, also written as it was added',
      publishedNameCollector(cli.cwd),
    )
    .addHelpText('after', '\nExample:\n  banger vm port remove web 8080')
    .action(async (vm: string, names: PublishedName[]) => {
      const done = await cli.call(vmSet, { vm, ...unpublishParams(names) });
      cli.print(done, () =>
        names
          .map((name) => ('hostPath' in name ? name.hostPath : `${name.hostPort}/${name.protocol}`))
          .join('\n'),
      );
    });
}

function listCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('list')
      .alias('ls')
      .description('Show which ports and sockets of this host lead into VMs, and where to'),
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
          const { id, name, state, ports, sockets } = await cli.call(vmShow, { vm });
          return { id, name, state, ports, sockets };
        },
        (one) => publishedText([one]),
        { allText: publishedText },
      ),
    );
}

function publishedText(vms: readonly Pick<VmView, 'name' | 'ports' | 'sockets'>[]): string {
  const rows = vms.flatMap(({ name, ports, sockets }) => [
    ...ports.map(({ bind, hostPort, guestPort, protocol, followed }) => [
      name,
      `${bind}:${hostPort}/${protocol}`,
      `${guestPort}/${protocol}${followed ? ', while it listens' : ''}`,
    ]),
    ...sockets.map(({ hostPath, guestPath }) => [name, hostPath, guestPath]),
  ]);
  return renderTable(['VM', 'HOST', 'GUEST'], rows);
}
