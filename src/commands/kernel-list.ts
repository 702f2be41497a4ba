import { Command } from 'commander';
import { kernelList, type KernelView } from '../engine/rpc/kernel-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { kernelName, shortKernelId } from './kernel-text.ts';
import { renderTable } from './table.ts';

export function kernelListCommand(cli: Cli): Command {
  return new Command('list')
    .alias('ls')
    .description('List the kernels on this host')
    .option('-q, --quiet', 'print ids only')
    .addHelpText('after', '\nExample:\n  banger kernel list')
    .action(async (options: { readonly quiet?: boolean }) => {
      const kernels = await cli.call(kernelList, {});
      cli.print(kernels, options.quiet ? idsText : listText);
    });
}

function listText(kernels: readonly KernelView[]): string {
  const rows = kernels.map((kernel) => [
    kernelName(kernel),
    kernel.id.slice(0, shortKernelId),
    kernel.version,
    kernel.isDefault ? 'yes' : '',
    formatBytes(kernel.imageBytes + kernel.modulesBytes),
    kernel.usedBy.join(', '),
  ]);
  return renderTable(['KERNEL', 'ID', 'LINUX', 'DEFAULT', 'SIZE', 'USED BY'], rows);
}

function idsText(kernels: readonly KernelView[]): string {
  return kernels.map((kernel) => kernel.id.slice(0, shortKernelId)).join('\n');
}
