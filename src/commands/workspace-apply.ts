import { Command } from 'commander';
import type { ResultOf } from '../engine/rpc/method.ts';
import { workspaceApply, type AppliedChange } from '../engine/rpc/workspace-methods.ts';
import { printable } from '../printable.ts';
import { shellWord } from '../host/shell-quote.ts';
import type { Cli } from './cli.ts';
import { diffstat } from './diffstat.ts';
import { collectWord } from './parse.ts';
import { sentIntoOption, sentToOption, sentWorkspace, type WorkspaceOptions } from './workspace-option.ts';

interface ApplyOptions extends WorkspaceOptions {
  readonly dryRun?: boolean;
  readonly check?: boolean;
  readonly markers?: boolean;
  readonly ours?: readonly string[];
}

type ApplyResult = ResultOf<typeof workspaceApply>;

const help = `
The changes are merged with yours as git merges, and written all or not at all; what you have staged stays staged. The
exit code is 1 when files are in conflict: then nothing is written, unless --markers asks for it. What was applied
before is not merged again: the next apply brings what the VM did since. A file that you name with --ours stays as it
is here, and what the VM has of it now is not told again; the next prepare sends yours.

Examples:
  banger workspace apply . --check
  banger workspace apply . --markers
  banger workspace apply . --ours logo.png`;

export function workspaceApplyCommand(cli: Cli): Command {
  return new Command('apply')
    .description('Merge what changed in the VM into the working tree here; the index is left alone')
    .argument('[path]', 'a directory of the working tree (default: the current one, or all that --vm has)')
    .addOption(sentToOption())
    .addOption(sentIntoOption())
    .option('--check, --dry-run', 'show what would change, conflicts included, and write nothing')
    .option('--markers', 'write files with conflicts too, with conflict markers (default: write nothing)')
    .option(
      '--ours <file>',
      'a file to keep as it is here, from the top of the tree; repeatable',
      collectWord,
    )
    .addHelpText('after', help)
    .action(async (path: string | undefined, options: ApplyOptions) => {
      const result = await cli.call(workspaceApply, {
        ...sentWorkspace(cli, path, options),
        dryRun: options.dryRun ?? false,
        markers: options.markers ?? false,
        ours: [...(options.ours ?? [])],
        umask: process.umask(),
      });
      for (const warning of result.warnings) cli.say(`Warning: ${printable(warning)}`);
      cli.print(result, ({ files }) =>
        [...files.flatMap(mergeLine), stat(files, cli.columns)].filter(Boolean).join('\n'),
      );
      const { vm, guestPath } = options;
      const words = [
        path,
        ...(vm === undefined ? [] : ['--vm', vm]),
        ...(guestPath === undefined ? [] : ['--guest-path', guestPath]),
      ];
      const ours = (options.ours ?? []).flatMap((file) => ['--ours', shellWord(file)]);
      const given = words.filter((word) => word !== undefined);
      const again = ['banger workspace apply', ...given, ...ours].join(' ');
      cli.say(outcome(result, options, printable(again)));
      // As `git apply` and `git merge`: conflicts are a failure, markers written or not.
      if (result.hasConflicts) cli.exitWith(1);
    });
}

/** What git says of a file while it merges. */
function mergeLine({ path, movedTo, outcome: what, conflict, reason }: AppliedChange): string[] {
  if (what === 'merged') return [`Auto-merging ${printable(movedTo ?? path)}`];
  return what === 'conflict' ? [`CONFLICT (${conflict}): ${printable(reason ?? '')}`] : [];
}

function stat(files: readonly AppliedChange[], columns: number | undefined): string {
  return diffstat(
    files.filter(({ isWritten }) => isWritten).map((file) => ({ ...file, path: file.movedTo ?? file.path })),
    columns,
  );
}

/** How it ended, and what to do next: the same command again, or another one. */
function outcome(
  { vm, files, hostPath, hasConflicts }: ApplyResult,
  options: ApplyOptions,
  again: string,
): string {
  if (files.length === 0) return `No changes in VM "${vm}"`;
  const count = (wanted: (file: AppliedChange) => boolean): string => {
    const number = files.filter(wanted).length;
    return `${number} ${number === 1 ? 'file' : 'files'}`;
  };
  const conflicts = count(({ outcome: each }) => each === 'conflict');
  if (hasConflicts && !options.markers)
    return `Nothing was written: ${conflicts} in conflict. Write the others, and conflict markers, with: ${again} --markers; keep yours of a file with --ours FILE`;
  if (!files.some(({ isWritten }) => isWritten))
    return `Nothing to write: ${printable(hostPath)} has all changes of VM "${vm}"`;
  if (options.dryRun)
    return `Nothing was written. Write it with: ${again}${options.markers ? ' --markers' : ''}`;
  const applied = `Applied ${count(({ isWritten, outcome: each }) => isWritten && each !== 'conflict')} to ${printable(hostPath)}`;
  return hasConflicts
    ? `${applied}. Resolve the conflicts in ${conflicts}; find markers with: git diff --check`
    : applied;
}
