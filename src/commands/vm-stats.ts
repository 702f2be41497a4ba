import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { vmSelect } from '../engine/rpc/vm-control-methods.ts';
import { BangerError } from '../errors.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import { vmStats } from '../engine/rpc/vm-stats-methods.ts';
import { formatBytes } from '../state/units.ts';
import { printableJson } from '../printable.ts';
import type { Cli } from './cli.ts';
import { renderTable } from './table.ts';
import { UsageError } from './usage-error.ts';
import { addVmSelection, labelsOf, type VmSelection } from './vm-selection.ts';

interface StatsOptions extends VmSelection {
  readonly all?: boolean;
  readonly watch?: boolean;
}

type Stats = ResultOf<typeof vmStats>;

const watchIntervalMs = 2_000;

export function vmStatsCommand(cli: Cli): Command {
  return addVmSelection(
    new Command('stats').description('Show what VMs use: of the host, and what their guests say'),
  )
    .option('-a, --all', 'stopped ones too')
    .option('-w, --watch', 'go on, every 2 s; with --json one line each time')
    .addHelpText('after', '\nWithout names: all that run.\n\nExample:\n  banger vm stats --watch')
    .action(async (vms: string[], options: StatsOptions) => {
      const labels = labelsOf(options);
      if (vms.length > 0 && labels.length > 0)
        throw new UsageError('VMs are chosen by name or by label, not by both', 'Give one of them');
      const ids = vms.length === 0 ? undefined : await idsOf(cli, vms);
      const ask = async (): Promise<Stats> => {
        const stats = await cli.call(vmStats, { ids, labels });
        return stats.filter((one) => ids || options.all || one.state !== 'stopped');
      };
      if (!options.watch) return cli.print(await ask(), statsText);
      for (;;) {
        await show(cli, await ask());
        await sleep(watchIntervalMs);
      }
    });
}

/** Found once: a VM that is renamed while it is watched stays the same VM. */
async function idsOf(cli: Cli, references: readonly string[]): Promise<string[]> {
  const found = await cli.call(vmSelect, { references: [...references] });
  return found.map((one) => {
    if ('id' in one) return one.id;
    const { code, message, hint } = one.error;
    throw new BangerError(code, message, { hint });
  });
}

async function show(cli: Cli, stats: Stats): Promise<void> {
  if (cli.json) return cli.write(`${printableJson(stats)}\n`);
  // On a terminal, in place: home, then clear what was below.
  const clear = cli.programTerminal() ? '\u001b[H\u001b[2J' : '';
  await cli.write(`${clear}${statsText(stats)}\n`);
}

export function statsText(stats: Stats): string {
  return renderTable(
    [
      'NAME',
      'STATE',
      'CPU %',
      'MEMORY',
      'DISK',
      'READ / WRITTEN',
      'LOAD',
      'GUEST MEMORY',
      'GUEST DISK',
      'NET IN / OUT',
    ],
    stats.map(({ vmm, guest, guestError, ...vm }) => [
      vm.name,
      vm.state,
      vmm ? vmm.cpuPercent.toFixed(1) : '',
      vmm ? `${formatBytes(vmm.memoryBytes)} of ${formatBytes(vm.memoryLimitBytes)}` : '',
      formatBytes(vm.diskUsedBytes),
      vmm?.readBytes === undefined
        ? ''
        : `${formatBytes(vmm.readBytes)} / ${formatBytes(vmm.writeBytes ?? 0)}`,
      // Of one that does not run, the state says it.
      guest ? guest.load[0]!.toFixed(2) : vm.state === 'running' ? (guestError ?? '') : '',
      guest ? used(guest.memoryTotalBytes - guest.memoryAvailableBytes, guest.memoryTotalBytes) : '',
      guest ? used(guest.diskUsedBytes, guest.diskTotalBytes) : '',
      guest ? `${formatBytes(guest.receivedBytes)} / ${formatBytes(guest.sentBytes)}` : '',
    ]),
  );
}

function used(bytes: number, total: number): string {
  return `${formatBytes(bytes)} of ${formatBytes(total)}`;
}
