import { resolve } from 'node:path';
import { Command } from 'commander';
import { kernelImport } from '../engine/rpc/kernel-methods.ts';
import type { Cli } from './cli.ts';
import { kernelReadyText, sayNews } from './kernel-text.ts';

interface ImportOptions {
  readonly modules?: string;
  readonly name?: string;
}

const help = `
The kernel may be a vmlinux, a bzImage (vmlinuz; packed with LZ4, gzip, zstd or xz), a Debian package, or a tar of
boot/ and lib/modules/. Guests get the modules that they need to boot; the others are not brought into them.

Examples:
  banger kernel import linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb
  banger kernel import /boot/vmlinuz-6.1.0 --modules /lib/modules/6.1.0 --name host
  banger kernel import linux-image-6.8.deb --modules linux-modules-6.8.deb`;

export function kernelImportCommand(cli: Cli): Command {
  return new Command('import')
    .description('Make a kernel of a file, so that VMs can boot it')
    .argument('<path>', 'vmlinux, bzImage, Debian package or tar')
    .option('--modules <path>', 'directory of its modules, or the package that has them')
    .option('--name <name>', 'name of the kernel (default: its version)')
    .addHelpText('after', help)
    .action(async (path: string, { modules, name }: ImportOptions) => {
      const kernel = await cli.call(kernelImport, {
        path: resolve(cli.cwd, path),
        modulesPath: modules === undefined ? undefined : resolve(cli.cwd, modules),
        name,
      });
      cli.print(kernel, kernelReadyText);
      sayNews(cli, kernel);
    });
}
