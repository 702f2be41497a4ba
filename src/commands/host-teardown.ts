import { Command } from 'commander';
import type { TeardownReport } from '../host/setup/setup-host.ts';
import { hostMarkersDirectory } from '../state/layout.ts';
import type { Cli } from './cli.ts';

export function hostTeardownCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  return new Command('teardown')
    .description('Remove all that "host setup" has made for a user')
    .option('--user <name>', 'for whom, by name or number, also when they are gone (default: who ran sudo)')
    .addHelpText(
      'after',
      '\nVMs that use it lose their network; stop them first.\n\nExample:\n  sudo banger host teardown',
    )
    .action(async ({ user }: { readonly user?: string }) => {
      const { teardownHost } = await import('../host/setup/setup-host.ts');
      const done = await teardownHost({ user }, { env, markers: hostMarkersDirectory });
      cli.print(done, ({ removed, links }) =>
        removed.length === 0 && links.length === 0
          ? `Nothing was set up for ${done.user}`
          : [
              `Bridges, taps and rules for ${done.user} are gone`,
              ...removed.map((path) => `Removed ${path}`),
            ].join('\n'),
      );
      if (done.cutOff.length > 0) cli.say(`Warning: ${cutOffText(done)}`);
    });
}

function cutOffText({ user, cutOff }: TeardownReport): string {
  const vms = cutOff.length === 1 ? 'a VM' : `${cutOff.length} VMs`;
  return `${vms} of ${user} ran on it and reach nothing by it until the host is set up and they are started again: ${cutOff.join(', ')}`;
}
