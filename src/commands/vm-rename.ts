import { Argument, Command } from 'commander';
import { vmSet } from '../engine/rpc/vm-control-methods.ts';
import type { Cli } from './cli.ts';
import { parseVmName } from './parse.ts';
import { setText } from './vm-set.ts';

export function vmRenameCommand(cli: Cli): Command {
  return new Command('rename')
    .description('Give a VM another name, which is its host name too')
    .argument('<vm>', 'name or id')
    .addArgument(new Argument('<name>', 'the new name').argParser(parseVmName))
    .addHelpText('after', '\nExample:\n  banger vm rename web shop')
    .action(async (vm: string, name: string) => {
      const done = await cli.call(vmSet, { vm, name });
      if (done.atNextStart.length > 0) cli.say(setText(done));
      cli.print(done, () => done.name);
    });
}
