import { resolve } from 'node:path';
import { Command } from 'commander';
import { bundleSummary, imageBundle } from '../engine/rpc/image-bundle-methods.ts';
import type { Cli } from './cli.ts';
import { saveOutput } from './save-output.ts';

const help = `
A bundle is a tar.zst of the image's filesystem as it is and a manifest with its hash: nothing is converted where it is
pulled. GNU tar unpacks it, too. Equal images give equal bundles.

Examples:
  banger image bundle app -o app.tar.zst
  banger image pull ./app.tar.zst
  banger image pull https://files.example/app.tar.zst#sha256=0123…`;

export function imageBundleCommand(cli: Cli): Command {
  return new Command('bundle')
    .description('Write an image as a file that other hosts of banger pull')
    .argument('<image>', 'name or id')
    .option('-o, --output <file>', 'write to a file (default, and -: standard output)')
    .addHelpText('after', help)
    .action(async (reference: string, { output }: { readonly output?: string }) => {
      const file = output === undefined || output === '-' ? undefined : resolve(cli.cwd, output);
      const exit = await saveOutput(cli, file, (ends) => cli.transfer(imageBundle, { reference }, ends));
      const summary = bundleSummary.parse(exit);
      if (file !== undefined) cli.print({ ...summary, path: file }, () => `sha256:${summary.sha256}`);
    });
}
