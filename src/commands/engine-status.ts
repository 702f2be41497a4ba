import { Command } from 'commander';
import { engineStatus } from '../engine/rpc/engine-methods.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { ago } from './vm-text.ts';

export function engineStatusCommand(cli: Cli): Command {
  return new Command('status')
    .description('Show whether the engine runs, and where its files are')
    .addHelpText('after', '\nExample:\n  banger engine status')
    .action(async () => {
      const status = await cli.callIfRunning(engineStatus, {});
      if (!status) {
        cli.print(
          { running: false },
          () => 'The engine is not running. The next command that needs it starts it.',
        );
        return;
      }
      cli.print({ running: true, ...status }, () =>
        [
          `Engine ${status.version}, pid ${status.pid}, started ${ago(status.startedAt)}, ${formatBytes(status.memoryBytes)}`,
          `Running VMs: ${status.runningVms}`,
          `Operations:  ${status.operations.length}`,
          ...status.operations.map(
            (operation) => `  ${operation.id}  ${operation.kind}  ${operation.subject ?? ''}`,
          ),
          `State:       ${status.stateDirectory}`,
          `Socket:      ${status.socket}`,
          `Log:         ${status.log}`,
          ...(status.names === undefined ? [] : [`Names:       ${status.names} answers for NAME.vm`]),
        ].join('\n'),
      );
    });
}
