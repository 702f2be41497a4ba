import { Command } from 'commander';
import { kernelPull } from '../engine/rpc/kernel-methods.ts';
import type { Cli } from './cli.ts';
import { kernelReadyText, sayNews } from './kernel-text.ts';

interface PullOptions {
  readonly sha256?: string;
  readonly modules?: string;
  readonly name?: string;
}

const help = `
A hash is required, in the address or beside it: what arrives is used only if it has that hash.

Examples:
  banger kernel pull https://mirror.example/linux-image-cloud.deb --sha256 0123…
  banger kernel pull https://mirror.example/vmlinux#sha256=0123… --name mine
  banger kernel pull mine                (a name under [kernels] in the configuration)`;

export function kernelPullCommand(cli: Cli): Command {
  return new Command('pull')
    .description('Fetch a kernel whose hash you know')
    .argument('<source>', 'http or https address, or a name of the configuration')
    .option('--sha256 <hex>', 'hash of the file')
    .option('--modules <url>', 'package that has its modules, as ADDRESS#sha256=HEX')
    .option('--name <name>', 'name of the kernel (default: the name given, or its version)')
    .addHelpText('after', help)
    .action(async (source: string, { sha256, modules, name }: PullOptions) => {
      const kernel = await cli.call(kernelPull, { source, sha256, modules, name });
      cli.print(kernel, kernelReadyText);
      sayNews(cli, kernel);
    });
}
