import { Command } from 'commander';
import { BangerError } from '../errors.ts';
import { vmPrune } from '../engine/rpc/vm-control-methods.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { confirm } from './confirm.ts';
import { renderTable } from './table.ts';
import { addLabelFilter, labelsOf, type VmSelection } from './vm-selection.ts';
import { ago } from './vm-text.ts';

interface PruneOptions extends VmSelection {
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

type Report = ResultOf<typeof vmPrune>;

export function vmPruneCommand(cli: Cli): Command {
  const command = addLabelFilter(
    new Command('prune').description('Delete stopped VMs with their disks; running and paused ones stay'),
  );
  return command
    .option('-n, --dry-run', 'only show what would go')
    .option('-f, --force', 'do not ask')
    .addHelpText('after', '\nExample:\n  banger vm prune --dry-run')
    .action(async (options: PruneOptions) => {
      const labels = labelsOf(options);
      const plan = await cli.call(vmPrune, { labels, dryRun: true });
      if (options.dryRun || plan.removed.length === 0)
        return cli.print(plan, (report) => reportText(report, 'Would delete'));
      if (!options.force) {
        cli.say(reportText(plan, 'Would delete'));
        const disks = plan.removed.length === 1 ? 'its disk' : 'their disks';
        if (!(await confirm(cli, `Delete ${countText(plan)} and ${disks}?`))) {
          cli.exitWith(1);
          return cli.say('Nothing deleted');
        }
      }
      // Those that were shown, and no others.
      const ids = plan.removed.map(({ id }) => id);
      const report = await cli.call(vmPrune, { labels, ids });
      cli.print(report, (done) => reportText(done, 'Deleted'));
      if (report.failed.length === 0) return;
      const [first] = report.failed;
      throw new BangerError(
        'command_failed',
        `${report.failed.length} of them could not be deleted; "${first!.name}": ${first!.message}`,
        { hint: `Try again: banger vm delete ${report.failed.map(({ name }) => name).join(' ')}` },
      );
    });
}

function reportText(report: Report, verb: 'Deleted' | 'Would delete'): string {
  if (report.removed.length === 0) return 'No stopped VMs to delete';
  const rows = report.removed.map(({ name, image, bytes, stoppedAt }) => [
    name,
    image,
    formatBytes(bytes),
    ago(stoppedAt),
  ]);
  const freed = verb === 'Deleted' ? 'Freed' : 'Would free';
  return `${verb} ${countText(report)}:\n${renderTable(['NAME', 'IMAGE', 'DISK USED', 'STOPPED'], rows)}\n${freed} ${formatBytes(report.freedBytes)}`;
}

function countText({ removed }: Report): string {
  return `${removed.length} VM${removed.length === 1 ? '' : 's'}`;
}
