import { Command } from 'commander';
import type { Cli } from './cli.ts';
import { imageDeleteCommand } from './image-delete.ts';
import { imageImportCommand } from './image-import.ts';
import { imageListCommand } from './image-list.ts';
import { imagePullCommand } from './image-pull.ts';
import { imageShowCommand } from './image-show.ts';

export function imageCommand(cli: Cli): Command {
  return new Command('image')
    .description('Manage the images that VMs are made from')
    .addCommand(imagePullCommand(cli))
    .addCommand(imageImportCommand(cli))
    .addCommand(imageListCommand(cli))
    .addCommand(imageShowCommand(cli))
    .addCommand(imageDeleteCommand(cli));
}
