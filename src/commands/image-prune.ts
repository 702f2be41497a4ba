import { Command } from 'commander';
import { imagePrune, type PruneItem, type PruneReport } from '../engine/rpc/image-prune-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { shortIdLength } from './image-text.ts';
import { renderTable } from './table.ts';

interface PruneOptions {
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

export function imagePruneCommand(cli: Cli): Command {
  return new Command('prune')
    .description('Remove images without a name, and downloads that no image needs')
    .option(
      '-a, --all',
      'every image that no VM uses, and every download; exports of images that stay have one layer then',
    )
    .option('-n, --dry-run', 'only show what would go, what would stay, and why')
    .option('-f, --force', 'do not ask')
    .addHelpText('after', '\nExample:\n  banger image prune --all --dry-run')
    .action(async ({ all = false, dryRun = false, force = false }: PruneOptions) => {
      if (!dryRun && !force) {
        const plan = await cli.call(imagePrune, { all, dryRun: true });
        if (plan.removed.length === 0) return cli.print(plan, (report) => reportText(report, 'Would remove'));
        cli.say(reportText(plan, 'Would remove'));
        if (!(await confirm(cli, `Remove ${formatBytes(plan.freedBytes)}?`))) {
          cli.exitWith(1);
          return cli.say('Nothing removed');
        }
      }
      const report = await cli.call(imagePrune, { all, dryRun });
      cli.print(report, (done) => reportText(done, dryRun ? 'Would remove' : 'Removed'));
    });
}

function reportText({ removed, kept, freedBytes }: PruneReport, verb: 'Removed' | 'Would remove'): string {
  const sum = `${verb === 'Removed' ? 'Freed' : 'Would free'} ${formatBytes(freedBytes)}`;
  return [
    ...(removed.length > 0 ? [`${verb}:`, itemTable(removed), ''] : []),
    ...(kept.length > 0 ? ['Kept:', itemTable(kept), ''] : []),
    removed.length > 0 ? sum : 'Nothing to remove',
  ].join('\n');
}

const kindWords: Readonly<Record<PruneItem['kind'], string>> = {
  image: 'image',
  blob: 'download',
  partial: 'unfinished download',
  staging: 'leftover',
};

/** Images one by one; of the rest, only how many there are for each reason. */
function itemTable(items: readonly PruneItem[]): string {
  const rows = items
    .filter((item) => item.kind === 'image')
    .map((item) => [
      'image',
      item.names.join(', ') || item.id.slice(0, shortIdLength),
      formatBytes(item.bytes),
      item.why,
    ]);
  const others = Map.groupBy(
    items.filter((item) => item.kind !== 'image'),
    (item) => `${item.kind} ${item.why}`,
  );
  for (const group of others.values()) {
    const [first] = group;
    const name = group.length === 1 ? shortDigest(first!.id) : `${group.length} of them`;
    const bytes = group.reduce((sum, item) => sum + item.bytes, 0);
    rows.push([kindWords[first!.kind], name, formatBytes(bytes), first!.why]);
  }
  return renderTable(['KIND', 'NAME', 'SIZE', 'WHY'], rows);
}

function shortDigest(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, shortIdLength);
}
