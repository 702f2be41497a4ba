import { Command } from 'commander';
import { vmSet } from '../engine/rpc/vm-control-methods.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import type { Cli } from './cli.ts';
import { collectGuestPath, fileSyncCollector, type AskedFile } from './file-sync-options.ts';
import { collectLabel, type LabelSelector } from './label-options.ts';
import { collectWord, parseCount, parseMib, parseSize, parseStopAfterOrOff, parseVmName } from './parse.ts';
import {
  publishCollector,
  publishedNameCollector,
  publishParams,
  publishSyntax,
  unpublishParams,
  type Published,
  type PublishedName,
} from './port-options.ts';
import { UsageError } from './usage-error.ts';
import { addFilter, forEachVm } from './vm-selection.ts';
import { pendingText } from './vm-text.ts';

interface SetOptions {
  readonly name?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly disk?: number;
  readonly label?: Record<string, string>;
  readonly removeLabel?: string[];
  readonly publish?: Published[];
  readonly unpublish?: PublishedName[];
  readonly publishAll?: boolean;
  readonly ttl?: number;
  readonly idleStop?: number;
  readonly fileSync?: AskedFile[];
  readonly removeFileSync?: string[];
  readonly filter?: readonly LabelSelector[];
}

const help = `
While a VM runs: name, labels, ports, times and a larger disk hold at once; processors, memory and files from its next start.

Examples:
  banger vm set web --memory 4G          from the next start on
  banger vm set web -p 8080:80           a port, now
  banger vm set --filter label=app=web --ttl 2h`;

export function vmSetCommand(cli: Cli): Command {
  const command = addFilter(
    new Command('set')
      .description('Change VMs: size, name, labels, ports, times, files')
      .argument('[vm...]', 'names or ids'),
  );
  return command
    .option('--name <name>', 'another name', parseVmName)
    .option('--cpus <count>', 'virtual CPUs', parseCount)
    .option('--memory <size>', 'memory, such as 512M or 2G', parseMib)
    .option('--disk <size>', 'a larger root disk', parseSize)
    .option('-l, --label <key=value>', 'set a label (repeatable)', collectLabel)
    .option('--remove-label <key>', 'take a label away (repeatable)', collectWord)
    .option(
      '-p, --publish <port>',
      `lead a port or a Unix socket into it: ${publishSyntax} (repeatable)`,
      publishCollector(cli.cwd),
    )
    .option(
      '--unpublish <port>',
      'a port or socket of the host that no longer leads into it (repeatable)',
      publishedNameCollector(cli.cwd),
    )
    .option('-P, --publish-all', 'publish whatever listens in it, on 127.0.0.1, as long as it listens')
    .option('--no-publish-all', 'publish no more than was asked for by number')
    .option(
      '--ttl <duration>',
      'stop it after this long, from now and after each start; or "off"',
      parseStopAfterOrOff,
    )
    .option('--idle-stop <duration>', 'stop it when unused for this long; or "off"', parseStopAfterOrOff)
    .option(
      '--file-sync <host[:guest]>',
      'send it a copy of a file or directory of this host from its next start on (repeatable)',
      fileSyncCollector(cli.cwd),
    )
    .option(
      '--remove-file-sync <guest>',
      'send nothing to this path any more; what is there stays (repeatable)',
      collectGuestPath,
    )
    .addHelpText('after', help)
    .action(async (vms: string[], options: SetOptions) => {
      const { filter, ...changes } = options;
      if (Object.keys(changes).length === 0)
        throw new UsageError('Nothing to change was given', 'See what can be: banger vm set --help');
      await forEachVm(
        cli,
        { vms, options: { filter }, command },
        (vm, subject) => cli.call(vmSet, { vm, ...setParams(options) }, subject),
        setText,
      );
    });
}

function setParams(options: SetOptions) {
  const orNull = (milliseconds: number | undefined): number | null | undefined =>
    milliseconds === 0 ? null : milliseconds;
  return {
    name: options.name,
    cpus: options.cpus,
    memoryMib: options.memory,
    diskBytes: options.disk,
    labels: options.label ?? {},
    removeLabels: options.removeLabel ?? [],
    ...publishParams(options.publish),
    ...unpublishParams(options.unpublish),
    publishAll: options.publishAll,
    fileSync: options.fileSync ?? [],
    removeFileSync: options.removeFileSync ?? [],
    ttlMs: orNull(options.ttl),
    idleStopMs: orNull(options.idleStop),
  };
}

const words: Readonly<Record<string, string>> = {
  memoryMib: 'memory',
  diskBytes: 'disk',
  ttlMs: 'ttl',
  idleStopMs: 'idle-stop',
  fileSync: 'file-sync',
  publishesAll: 'publish-all',
};

/** `web: labels set; at the next start: 4 GiB memory` */
export function setText(vm: ResultOf<typeof vmSet>): string {
  const now = vm.applied.map((key) => words[key] ?? key);
  const pending = pendingText(vm);
  const later = [pending, ...vm.atNextStart.filter((key) => pending === undefined || key === 'fileSync')]
    .filter((word) => word !== undefined)
    .map((key) => words[key] ?? key);
  const parts = [
    now.length === 0 ? undefined : `${now.join(', ')} set`,
    vm.atNextStart.length === 0 ? undefined : `at the next start: ${later.join(', ')}`,
  ].filter((part) => part !== undefined);
  return `${vm.name}: ${parts.length === 0 ? 'nothing changed' : parts.join('; ')}`;
}
