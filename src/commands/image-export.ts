import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import type * as z from 'zod/mini';
import { exportFormats, exportSummary, imageExport, imageExportLayout } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { saveDirectory } from './save-directory.ts';
import { saveOutput } from './save-output.ts';
import { UsageError } from './usage-error.ts';

interface ExportOptions {
  readonly output?: string;
  readonly format: (typeof exportFormats)[number] | typeof layoutFormat;
}

const layoutFormat = 'oci-dir';

const help = `
The docker format is an OCI layout, too: docker load, podman load, skopeo and others read it. A pulled image keeps its
layers and its digest; with --format oci its manifest has OCI's types in any case. An image that was not pulled, or
whose layers are not cached any more, gets one layer. With --format oci-dir the layout is written as a directory.

Examples:
  banger image export app -o app.tar
  banger image export app | docker load
  banger image export app --format oci-dir -o app/`;

export function imageExportCommand(cli: Cli): Command {
  return new Command('export')
    .alias('save')
    .description('Write an image as a tar that docker and others load')
    .argument('<image>', 'name or id')
    .option('-o, --output <file>', 'file or directory to write (default, and -: standard output)')
    .addOption(
      new Option('--format <format>', 'kind of archive')
        .choices([...exportFormats, layoutFormat])
        .default('docker'),
    )
    .addHelpText('after', help)
    .action(async (reference: string, { output, format }: ExportOptions) => {
      const file = output === undefined || output === '-' ? undefined : resolve(cli.cwd, output);
      const summary =
        format === layoutFormat
          ? await exportLayout(cli, reference, file)
          : exportSummary.parse(
              await saveOutput(cli, file, (ends) => cli.transfer(imageExport, { reference, format }, ends)),
            );
      if (file === undefined) return;
      cli.print({ ...summary, path: file }, () => summary.digest);
      if (!summary.original)
        cli.say(
          'Its layers are not here as they came: it was written with one layer, made of its filesystem',
        );
    });
}

function exportLayout(
  cli: Cli,
  reference: string,
  path: string | undefined,
): Promise<z.output<typeof exportSummary>> {
  if (path === undefined) throw new UsageError('A directory needs a name', 'Give it one with: -o DIRECTORY');
  return saveDirectory(path, (directory) => cli.call(imageExportLayout, { reference, directory }));
}
