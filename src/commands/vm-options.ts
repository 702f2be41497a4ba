import type { Command } from 'commander';
import { collectEgress, egressHelp } from './egress-options.ts';
import { fileSyncCollector, type AskedFile } from './file-sync-options.ts';
import { collectLabel } from './label-options.ts';
import {
  parseCount,
  parseMib,
  parseSize,
  parseStopAfter,
  parseStopAfterOrOff,
  parseVmName,
} from './parse.ts';
import { publishCollector, publishParams, publishSyntax, type Published } from './port-options.ts';

/** What `vm create` and `vm run` ask about a new VM. */
export interface VmSpecOptions {
  readonly name?: string;
  readonly image?: string;
  readonly kernel?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly disk?: number;
  readonly label?: Record<string, string>;
  readonly network?: string;
  readonly publish?: Published[];
  readonly publishAll?: boolean;
  readonly egress?: string[];
  readonly ttl?: number;
  /** 0 means never */
  readonly idleStop?: number;
  readonly fileSync?: AskedFile[];
  /** False with `--no-config-files` */
  readonly configFiles: boolean;
}

export function addVmSpecOptions(command: Command, cwd: string): Command {
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
    .option('--disk <size>', 'size of the root disk (default: 8G; takes space as it is used)', parseSize)
    .option('-l, --label <key=value>', 'a label to find it by (repeatable)', collectLabel)
    .option(
      '--network <name>',
      'user: out through this host; bridge: an address of its own; none: cut off (default: from the config, else user)',
    )
    .option(
      '-p, --publish <port>',
      `lead a port or a Unix socket into it: ${publishSyntax}; ports on 127.0.0.1 unless ADDRESS says otherwise (repeatable)`,
      publishCollector(cwd),
    )
    .option('-P, --publish-all', 'publish whatever listens in it, on 127.0.0.1, as long as it listens')
    .option(
      '--egress <rules>',
      `${egressHelp} (default: from the config, else all; repeatable)`,
      collectEgress,
    )
    .option('--ttl <duration>', 'stop it this long after each start, such as 2h', parseStopAfter)
    .option(
      '--idle-stop <duration>',
      'stop it when nobody has used it for this long, or "off" (default: from the config, else off)',
      parseStopAfterOrOff,
    )
    .option(
      '--file-sync <host[:guest]>',
      'send it a copy of a file or directory of this host at each start, such as ~/.npmrc (repeatable)',
      fileSyncCollector(cwd),
    )
    .option('--no-config-files', 'send it nothing that file_sync in the configuration names');
}

/** The same, as the engine is asked. */
export function vmSpecParams(options: VmSpecOptions) {
  return {
    name: options.name,
    image: options.image,
    kernel: options.kernel,
    cpus: options.cpus,
    memoryMib: options.memory,
    diskBytes: options.disk,
    labels: options.label ?? {},
    network: options.network,
    ...publishParams(options.publish),
    publishAll: options.publishAll ?? false,
    egress: options.egress,
    fileSync: options.fileSync ?? [],
    takesConfigFiles: options.configFiles,
    ttlMs: options.ttl,
    idleStopMs: options.idleStop === 0 ? null : options.idleStop,
  };
}
