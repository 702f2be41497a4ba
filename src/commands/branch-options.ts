import type { Command } from 'commander';
import { UsageError } from './usage-error.ts';

export interface BranchOptions {
  readonly branch?: string;
  readonly from?: string;
}

export function addBranchOptions(command: Command): Command {
  return command
    .option(
      '--branch <name>',
      'a new branch that only the VM gets, as by git switch -c; changes are carried along',
    )
    .option('--from <ref>', 'with --branch: what it begins at (default: HEAD)');
}

/** The same, as the engine is asked. */
export function guestBranchParam({ branch, from }: BranchOptions) {
  if (branch !== undefined) return { name: branch, from };
  if (from === undefined) return undefined;
  throw new UsageError(
    '--from says where a branch of --branch begins',
    `Name it: --branch NAME --from ${from}`,
  );
}
