import type { KernelView } from '../engine/rpc/kernel-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';

/** How much of a kernel's id people see. */
export const shortKernelId = 12;

/** What is said when a kernel has come. */
export function kernelReadyText(kernel: KernelView): string {
  const about = [
    `Linux ${kernel.version}`,
    formatBytes(kernel.imageBytes),
    kernel.id.slice(0, shortKernelId),
  ];
  return `${kernelName(kernel)} (${about.map(printable).join(', ')})`;
}

/** What a new kernel lacks is said, and then how to use it. */
export function sayNews(cli: Cli, kernel: KernelView): void {
  for (const warning of kernel.warnings) cli.say(`warning: ${printable(warning)}`);
  cli.say(`Boot it with: banger vm create --kernel ${printable(kernel.names.at(0) ?? kernel.id)}`);
}

export function kernelName(kernel: KernelView): string {
  return kernel.names.length === 0 ? '<none>' : kernel.names.map(printable).join(', ');
}
