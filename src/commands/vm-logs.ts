import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';
import { vmLogs } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';

interface LogsOptions {
  readonly source: 'console' | 'vmm';
  readonly follow?: boolean;
}

const followPollMs = 500;

export function vmLogsCommand(cli: Cli): Command {
  return new Command('logs')
    .description("Show a VM's console, or what its VMM said")
    .argument('<vm>', 'name or id')
    .addOption(new Option('--source <source>', 'which log').choices(['console', 'vmm']).default('console'))
    .option('-f, --follow', 'go on until the VM stops')
    .addHelpText('after', '\nExample:\n  banger vm logs web -f')
    .action(async (vm: string, options: LogsOptions) => {
      let part = await cli.call(vmLogs, { vm, source: options.source });
      if (cli.json && !options.follow) {
        const text = Buffer.from(part.content, 'base64').toString('utf8');
        cli.print({ vm, source: options.source, text }, () => '');
        return;
      }
      for (;;) {
        await cli.write(Buffer.from(part.content, 'base64'));
        const isDone = !options.follow || (!part.isRunning && part.content === '');
        if (isDone) return;
        if (part.content === '') await sleep(followPollMs);
        part = await cli.call(vmLogs, { vm, source: options.source, offset: part.nextOffset });
      }
    });
}
