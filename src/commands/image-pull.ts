import { Command } from 'commander';
import { imagePull } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';

export function imagePullCommand(cli: Cli): Command {
  return new Command('pull')
    .description('Fetch images from a registry and make them bootable')
    .argument('<image...>', 'references such as ubuntu, ghcr.io/owner/name:tag or name@sha256:…')
    .addHelpText('after', '\nExample:\n  banger image pull ubuntu:24.04')
    .action((references: string[]) =>
      cli.forEach(references, (reference) => cli.call(imagePull, { reference }), readyText),
    );
}
