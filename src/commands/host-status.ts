import { Command } from 'commander';
import type { SetupState } from '../host/setup/setup-state.ts';
import { hostMarkersDirectory } from '../state/layout.ts';
import type { Cli } from './cli.ts';

export function hostStatusCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  return new Command('status')
    .description('Tell what "host setup" has made for a user, and what of it is missing')
    .option('--user <name>', 'for whom (default: you, or who ran sudo)')
    .addHelpText('after', '\nThe exit code is 1 when something is missing.\n\nExample:\n  banger host status')
    .action(async ({ user }: { readonly user?: string }) => {
      const { hostStatus } = await import('../host/setup/setup-host.ts');
      const { setupTroubles } = await import('../host/setup/setup-state.ts');
      const state = await hostStatus({ user }, { env, markers: hostMarkersDirectory });
      const troubles = state ? setupTroubles(state) : [];
      cli.print({ isSetUp: state !== undefined, ...state }, () =>
        state ? stateText(state, troubles) : notSetUp,
      );
      if (troubles.length > 0) cli.exitWith(1);
    });
}

const notSetUp = 'Not set up. Do it with: sudo banger host setup';

function stateText(state: SetupState, trouble: readonly string[]): string {
  const { setup, taps, usedTaps } = state;
  const lines = setup.networks.map(({ name, subnet, isShared }) => {
    const kind = isShared ? 'its VMs reach each other' : 'its VMs are kept apart';
    return `Network "${name}": ${subnet}, ${kind}`;
  });
  return [
    ...lines,
    `Taps for ${setup.user}: ${taps.length}${setup.hasHeldTaps ? ', two for each VM' : ''}, of which ${usedTaps.length} in use`,
    ...(state.names.isTold ? ['Names: programs of this host find VMs as NAME.vm'] : []),
    ...trouble,
    ...(state.missingRules
      ? []
      : ['Rules: whether they are there only root can see (sudo banger host status)']),
    ...(trouble.length > 0 ? ['Make it whole with: sudo banger host setup'] : []),
  ].join('\n');
}
