import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { exportFormats, exportSummary, imageExport } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { saveOutput } from './save-output.ts';

interface ExportOptions {
  readonly output?: string;
  readonly format: (typeof exportFormats)[number];
}

const help = `
The docker format is an OCI layout, too: docker load, podman load, skopeo and others read it. A pulled image keeps its
layers and its digest; with --format oci its manifest has OCI's types in any case. An image that was not pulled, or
whose layers are not cached any more, gets one layer.

Examples:
  banger image export app -o app.tar
  banger image export app | docker load`;

export function imageExportCommand(cli: Cli): Command {
  return new Command('export')
    .alias('save')
    .description('Write an image as a tar that docker and others load')
    .argument('<image>', 'name or id')
    .option('-o, --output <file>', 'write to a file (default: standard output)')
    .addOption(new Option('--format <format>', 'kind of archive').choices(exportFormats).default('docker'))
    .addHelpText('after', help)
    .action(async (reference: string, { output, format }: ExportOptions) => {
      const file = output === undefined ? undefined : resolve(cli.cwd, output);
      const exit = await saveOutput(cli, file, (ends) =>
        cli.transfer(imageExport, { reference, format }, ends),
      );
      const summary = exportSummary.parse(exit);
      if (file === undefined) return;
      cli.print({ ...summary, path: file }, () => summary.digest);
      if (!summary.original)
        cli.say(
          'Its layers are not here as they came: it was written with one layer, made of its filesystem',
        );
    });
}
