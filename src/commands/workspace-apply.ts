import { resolve } from 'node:path';
import { Command } from 'commander';
import type { ResultOf } from '../engine/rpc/method.ts';
import { workspaceApply, type AppliedChange } from '../engine/rpc/workspace-methods.ts';
import { changesSummary, statLine } from './changes-text.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';

interface ApplyOptions {
  readonly vm?: string;
  readonly dryRun?: boolean;
  readonly markers?: boolean;
}

type ApplyResult = ResultOf<typeof workspaceApply>;

export function workspaceApplyCommand(cli: Cli): Command {
  return new Command('apply')
    .description('Merge what changed in the VM into the working tree here; the index is left alone')
    .argument('[path]', 'a directory of the working tree (default: the current one, or all that --vm has)')
    .option('--vm <name>', 'the VM (default: the one the tree was last sent to)')
    .option('--dry-run', 'show what would change, conflicts included, and write nothing')
    .option('--markers', 'write files with conflicts too, with conflict markers (default: write nothing)')
    .addHelpText('after', '\nExample:\n  banger workspace apply . --dry-run')
    .action(async (path: string | undefined, options: ApplyOptions) => {
      const isVmAlone = path === undefined && options.vm !== undefined;
      const result = await cli.call(workspaceApply, {
        path: isVmAlone ? undefined : resolve(cli.cwd, path ?? '.'),
        vm: options.vm,
        dryRun: options.dryRun ?? false,
        markers: options.markers ?? false,
      });
      for (const warning of result.warnings) cli.say(`Warning: ${printable(warning)}`);
      cli.say(changesSummary(result));
      cli.print(result, ({ files }) => files.map(changeLine).join('\n'));
      if (result.files.length > 0) cli.say(outcome(result, options));
      // As `git apply` and `git merge`: conflicts are a failure, markers written or not.
      if (result.hasConflicts) cli.exitWith(1);
    });
}

const notes = { applied: '', merged: '  (merged)', present: '  (already here)', conflict: '' } as const;

function changeLine(file: AppliedChange): string {
  const note =
    file.outcome === 'conflict' ? `  CONFLICT: ${printable(file.reason ?? '')}` : notes[file.outcome];
  return `${statLine(file)}${note}`;
}

function outcome({ files, hostPath, isApplied, hasConflicts }: ApplyResult, options: ApplyOptions): string {
  const count = (wanted: (file: AppliedChange) => boolean): string => {
    const number = files.filter(wanted).length;
    return `${number} ${number === 1 ? 'file' : 'files'}`;
  };
  const conflicts = count(({ outcome: each }) => each === 'conflict');
  if (options.dryRun)
    return hasConflicts ? `Nothing was written; ${conflicts} in conflict` : 'Nothing was written';
  if (!isApplied)
    return `Nothing was written: ${conflicts} in conflict. Write the rest, and conflict markers, with: banger workspace apply ${printable(hostPath)} --markers`;
  const written = count(({ outcome: each }) => each === 'applied' || each === 'merged');
  return `Applied ${written} to ${printable(hostPath)}${hasConflicts ? `; resolve the conflicts in ${conflicts}` : ''}`;
}
