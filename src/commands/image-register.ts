import { basename, resolve } from 'node:path';
import { Command } from 'commander';
import { imageRegister } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';

const help = `
The file stays yours and where it is: it is never written or deleted, and an image whose file has changed is refused.

Example:
  banger image register build/rootfs.ext4 --name mine`;

export function imageRegisterCommand(cli: Cli): Command {
  return new Command('register')
    .description('Use an ext4 filesystem in a file of yours as an image, where it is')
    .argument('<file>', 'file with an ext4 filesystem')
    .requiredOption('--name <name>', 'name of the image')
    .addHelpText('after', help)
    .action(async (file: string, { name }: { readonly name: string }) => {
      const path = resolve(cli.cwd, file);
      const image = await cli.call(imageRegister, { path, name });
      cli.print(image, readyText);
      cli.say(
        `Leave ${basename(path)} as it is while VMs use it; copy it with: banger image promote ${name}`,
      );
    });
}
