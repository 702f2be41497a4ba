import { Command } from 'commander';
import { kernelShow, type KernelDetails } from '../engine/rpc/kernel-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { kernelName } from './kernel-text.ts';
import { printable } from '../printable.ts';

export function kernelShowCommand(cli: Cli): Command {
  return new Command('show')
    .alias('inspect')
    .description('Show what is known of kernels')
    .argument('<kernel...>', 'names or ids')
    .addHelpText('after', '\nExample:\n  banger kernel show default')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(kernelShow, { reference }), detailsText),
    );
}

const boots: Readonly<Record<KernelDetails['format'], string>> = {
  elf: 'uncompressed',
  bzimage: 'compressed only, which takes longer: it has no entry point for virtual machines (CONFIG_PVH)',
};

/** On which releases its guests find their disks. */
function releases({ readsDeviceWords }: KernelDetails): string {
  if (readsDeviceWords === undefined) return '1.8 and later; import it again to find out about 1.7';
  return readsDeviceWords ? '1.7 and later' : '1.8 and later (no CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES)';
}

function detailsText(kernel: KernelDetails): string {
  const lines: readonly (readonly [string, string | undefined])[] = [
    ['Kernel', kernelName(kernel)],
    ['Id', kernel.id],
    ['Linux', `${kernel.version} (${kernel.arch})`],
    ['Default', kernel.isDefault ? 'yes' : 'no'],
    ['Source', kernel.source],
    ['Origin', kernel.origin],
    ['Boots', boots[kernel.format]],
    ['Firecracker', releases(kernel)],
    ['Size', `${formatBytes(kernel.imageBytes)}, modules ${formatBytes(kernel.modulesBytes)}`],
    ['Modules', kernel.modules.join(', ') || undefined],
    ...kernel.warnings.map((warning) => ['Warning', warning] as const),
    ['Created', kernel.createdAt],
    ['Used by', kernel.usedBy.join(', ') || undefined],
  ];
  const width = Math.max(...lines.map(([label]) => label.length)) + 2;
  return lines
    .filter(([, value]) => value !== undefined)
    .map(([label, value]) => `${`${label}:`.padEnd(width)}${printable(value ?? '')}`)
    .join('\n');
}
