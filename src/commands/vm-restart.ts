import type { Command } from 'commander';
import { vmRestart } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';
import { stoppingCommand } from './vm-stop.ts';

export function vmRestartCommand(cli: Cli): Command {
  return stoppingCommand(cli, vmRestart, { name: 'restart', description: 'Stop VMs, then start them again' });
}
