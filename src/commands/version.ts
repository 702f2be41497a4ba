import { Command } from 'commander';
import type { BuildIdentity } from '../engine/rpc/client.ts';
import type { Cli } from './cli.ts';

export function versionCommand(cli: Cli, build: BuildIdentity): Command {
  return new Command('version')
    .description('Show the version of banger')
    .addHelpText('after', '\nExample:\n  banger version --json')
    .action(() => {
      cli.print(
        { version: build.version, build: build.buildId },
        () => `banger ${build.version} (${build.buildId.slice(0, 12)})`,
      );
    });
}
