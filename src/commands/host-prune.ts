import { Command } from 'commander';
import { hostMarkersDirectory } from '../state/layout.ts';
import type { Cli } from './cli.ts';

export function hostPruneCommand(
  cli: Cli,
  env: Readonly<Record<string, string | undefined>>,
  stateDirectory: string,
): Command {
  return new Command('prune')
    .description('Remove bridges, taps and rules of bangers not known here, and without running VMs')
    .option('-n, --dry-run', 'only show what would go')
    .addHelpText(
      'after',
      '\nThey are left when a state directory is deleted. What VMs run on stays, and so does what "host setup" made.\n\nExample:\n  sudo banger host prune --dry-run',
    )
    .action(async ({ dryRun = false }: { readonly dryRun?: boolean }) => {
      const { pruneHost } = await import('../host/setup/setup-host.ts');
      const leftovers = await pruneHost({ stateDirectory, dryRun }, { env, markers: hostMarkersDirectory });
      const removed = leftovers.map(({ links, tables }) => ({ links, tables }));
      cli.print({ removed, dryRun }, () => prunedText(removed, dryRun));
    });
}

interface Pruned {
  readonly links: readonly string[];
  readonly tables: readonly string[];
}

function prunedText(removed: readonly Pruned[], dryRun: boolean): string {
  const verb = dryRun ? 'Would remove' : 'Removed';
  const lines = removed.flatMap(({ links, tables }) => [
    ...links.map((name) => `${verb} ${name}`),
    ...tables.map((name) => `${verb} table ${name}`),
  ]);
  return lines.length === 0 ? 'Nothing to remove' : lines.join('\n');
}
