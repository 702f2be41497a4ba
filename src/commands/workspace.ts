import { Command } from 'commander';
import type { Cli } from './cli.ts';
import { workspaceExportCommand } from './workspace-export.ts';
import { workspacePrepareCommand } from './workspace-prepare.ts';

export function workspaceCommand(cli: Cli): Command {
  return new Command('workspace')
    .alias('ws')
    .description('Send git working trees into VMs, and bring changes back')
    .addCommand(workspacePrepareCommand(cli))
    .addCommand(workspaceExportCommand(cli));
}
