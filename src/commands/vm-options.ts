import type { Command } from 'commander';
import { parseCount, parseMib, parseSize, parseVmName } from './parse.ts';

/** What `vm create` and `vm run` ask about a new VM. */
export interface VmSpecOptions {
  readonly name?: string;
  readonly image?: string;
  readonly kernel?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly disk?: number;
}

export function addVmSpecOptions(command: Command): Command {
  return command
    .option('--name <name>', 'name of the new VM (default: generated)', parseVmName)
    .option(
      '--image <ref>',
      'image to make it from; pulled when missing (default: from the config, else base)',
    )
    .option(
      '--kernel <name>',
      'kernel to boot (default: as set by kernel set-default, else the one inside banger)',
    )
    .option('--cpus <count>', 'virtual CPUs (default: a quarter of the host, at most 4)', parseCount)
    .option(
      '--memory <size>',
      'memory, such as 512M or 2G (default: an eighth of the host, at most 8G)',
      parseMib,
    )
    .option('--disk <size>', 'size of the root disk (default: 8G; takes space as it is used)', parseSize);
}

/** The same, as the engine is asked. */
export function vmSpecParams(options: VmSpecOptions): {
  name?: string;
  image?: string;
  kernel?: string;
  cpus?: number;
  memoryMib?: number;
  diskBytes?: number;
} {
  return {
    name: options.name,
    image: options.image,
    kernel: options.kernel,
    cpus: options.cpus,
    memoryMib: options.memory,
    diskBytes: options.disk,
  };
}
