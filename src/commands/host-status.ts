import { Command } from 'commander';
import type { SetupState } from '../host/setup/apply-setup.ts';
import { hostMarkersDirectory } from '../state/layout.ts';
import type { Cli } from './cli.ts';

export function hostStatusCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  return new Command('status')
    .description('Tell what "host setup" has made for a user, and what of it is missing')
    .option('--user <name>', 'for whom (default: you, or who ran sudo)')
    .addHelpText('after', '\nThe exit code is 1 when something is missing.\n\nExample:\n  banger host status')
    .action(async ({ user }: { readonly user?: string }) => {
      const { hostStatus } = await import('../host/setup/setup-host.ts');
      const state = await hostStatus({ user }, { env, markers: hostMarkersDirectory });
      cli.print({ isSetUp: state !== undefined, ...state }, () => (state ? stateText(state) : notSetUp));
      if (state && troubles(state).length > 0) cli.exitWith(1);
    });
}

const notSetUp = 'Not set up. Do it with: sudo banger host setup';

function stateText(state: SetupState): string {
  const { setup, taps, usedTaps } = state;
  const lines = setup.networks.map(({ name, subnet, isShared }) => {
    const kind = isShared ? 'its VMs reach each other' : 'its VMs are kept apart';
    return `Network "${name}": ${subnet}, ${kind}`;
  });
  const trouble = troubles(state);
  return [
    ...lines,
    `Taps for ${setup.user}: ${taps.length}${setup.hasHeldTaps ? ', two for each VM' : ''}, of which ${usedTaps.length} in use`,
    ...(state.names.isTold ? ['Names: programs of this host find VMs as NAME.vm'] : []),
    ...trouble,
    ...(trouble.length > 0 ? ['Make it whole with: sudo banger host setup'] : []),
  ].join('\n');
}

function troubles({ missingTaps, missingFiles, isForwarding, names }: SetupState): string[] {
  return [
    ...(missingTaps.length > 0 ? [`Missing taps: ${missingTaps.join(', ')}`] : []),
    ...missingFiles.map((path) => `Missing file: ${path}`),
    ...(names.isTold === false && names.resolver === 'systemd-resolved'
      ? ['systemd-resolved does not ask banger for NAME.vm']
      : []),
    ...(isForwarding ? [] : ['Packets are not forwarded (net.ipv4.ip_forward is 0)']),
  ];
}
