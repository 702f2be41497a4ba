import { Command, InvalidArgumentError } from 'commander';
import type { SetupReport } from '../host/setup/setup-host.ts';
import { hostMarkersDirectory } from '../state/layout.ts';
import type { Cli } from './cli.ts';
import { parseCount, parseVmName } from './parse.ts';

interface SetupOptions {
  readonly user?: string;
  readonly taps?: number;
  readonly network?: readonly string[];
  readonly dryRun?: boolean;
}

const maxTaps = 252;

export function hostSetupCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  return new Command('setup')
    .description('Make a bridge and taps for a user, once and as root, so that their VMs need no root')
    .option('--user <name>', 'for whom (default: you, or who ran sudo)')
    .option(
      '--taps <count>',
      'how many VMs can be on each network (default: as many as before, at first 8)',
      parseTaps,
    )
    .option('--network <name>', 'make a network too whose VMs reach each other (repeatable)', collectName)
    .option('--dry-run', 'only show every file and command')
    .addHelpText(
      'after',
      '\nA systemd unit brings it back at boot. Doing it again changes what is asked for, and keeps addresses.\n\nExamples:\n  banger host setup --dry-run\n  sudo banger host setup\n  sudo banger host teardown',
    )
    .action(async ({ user, taps, network = [], dryRun = false }: SetupOptions) => {
      const { setupHost } = await import('../host/setup/setup-host.ts');
      const input = { env, markers: hostMarkersDirectory };
      const report = await setupHost({ user, taps, shared: network, dryRun }, input);
      cli.print(report, reportText);
      if (!report.survivesReboot) cli.say('Warning: This host has no systemd: after a reboot, run it again');
      const { advice, problem } = report.names;
      if (advice) cli.say(`For names of VMs, ${advice}`);
      if (problem) cli.say(`Warning: VMs are not found as NAME.vm: ${problem}`);
      if (report.firewall) cli.say(`Warning: ${report.firewall.evidence}. ${report.firewall.fix}`);
      if (report.done) cli.say('Use it with: banger vm create --network bridge');
    });
}

function reportText({ user, networks, files, commands, done }: SetupReport): string {
  const lines = networks.map(
    ({ name, subnet, taps }) => `Network "${name}": ${subnet}, room for ${taps} VMs of ${user}`,
  );
  if (done) return [...lines, ...files.map(({ path }) => `Wrote ${path}`)].join('\n');
  return [
    ...lines,
    ...files.map(({ path, content }) => `\nWould write ${path}:\n${content.replace(/^(?=.)/gm, '  ')}`),
    '\nWould run:',
    ...commands.map((line) => `  ${line}`),
  ].join('\n');
}

function parseTaps(text: string): number {
  const count = parseCount(text);
  if (count <= maxTaps) return count;
  throw new InvalidArgumentError(`A network has room for ${maxTaps} VMs.`);
}

function collectName(text: string, collected: readonly string[] = []): string[] {
  return [...collected, parseVmName(text)];
}
