import { resolve } from 'node:path';
import { Command } from 'commander';
import { leftBehindText } from '../engine/rpc/left-behind-text.ts';
import type { ResultOf } from '../engine/rpc/method.ts';
import { workspacePrepare, type WorkspacePlan } from '../engine/rpc/workspace-methods.ts';
import { addTemplateOptions, chooseTemplate, type TemplateOptions } from './tree-template.ts';
import { formatBytes } from '../state/units.ts';
import { addBranchOptions, guestBranchParam, type BranchOptions } from './branch-options.ts';
import type { Cli } from './cli.ts';
import { includedPaths, includeOption } from './include-option.ts';
import { printable } from '../printable.ts';
import { UsageError } from './usage-error.ts';
import { receivePlan } from './receive-plan.ts';

const help = `
Examples:
  banger workspace prepare . --vm web
  banger workspace prepare . --branch fix --from v1.2
  banger workspace prepare . --include .env --dry-run`;

interface PrepareOptions extends TemplateOptions, BranchOptions {
  readonly vm?: string;
  readonly guestPath?: string;
  readonly includeUntracked?: boolean;
  readonly include: readonly string[];
  readonly dryRun?: boolean;
  readonly overwrite?: boolean;
  readonly fullHistory?: boolean;
  readonly readonly?: boolean;
}

export function workspacePrepareCommand(cli: Cli): Command {
  const command = new Command('prepare')
    .description('Send a git working tree into a VM, changes that are not committed included')
    .argument('[path]', 'a directory of the working tree (default: the current one)')
    .option('--vm <name>', 'the VM (default: the one it was sent to before, else a new one)')
    .option('--guest-path <path>', 'where it goes in the VM (default: /root/ and the name of its directory)')
    .option('--include-untracked', 'send untracked files too, except ignored ones')
    .addOption(includeOption())
    .option('--dry-run', 'list what would travel and its size; make no VM and touch none')
    .option('--overwrite', 'replace what is in the VM, changes made there included')
    .option('--full-history', 'send all commits of the branch, not the last ones only')
    .option('--readonly', 'take away write permission, as a hint to programs; nothing of it comes back');
  return addTemplateOptions(addBranchOptions(command))
    .addHelpText('after', help)
    .action(async (path: string | undefined, options: PrepareOptions) => {
      const tree = {
        path: resolve(cli.cwd, path ?? '.'),
        includeUntracked: options.includeUntracked ?? false,
        include: includedPaths(cli.cwd, path, options.include),
        guestBranch: guestBranchParam(options),
      };
      if (options.dryRun) return printPlan(cli, await receivePlan(cli, tree));
      // What the tree says is for VMs that are made for it; its tools are for others, too.
      const isNew = options.vm === undefined;
      if (!isNew && options.template)
        throw new UsageError(
          `--template is for a VM that is made, and --vm names one that is there`,
          `Make another one: banger vm run -d ${path ?? '.'} --template ${options.template}`,
        );
      const isAsked = isNew || options.trust === true || options.yes === true || cli.canAsk;
      const choice = isAsked
        ? await chooseTemplate(cli, tree.path, {
            ...options,
            template: isNew ? options.template : false,
            unlessBound: true,
          })
        : {};
      const result = await cli.call(workspacePrepare, {
        ...tree,
        ...choice,
        bootstrap: options.bootstrap,
        vm: options.vm,
        guestPath: options.guestPath,
        overwrite: options.overwrite ?? false,
        fullHistory: options.fullHistory ?? false,
        readonly: options.readonly ?? false,
      });
      for (const line of remarks(result)) cli.say(line);
      cli.print(result, ({ vm, guestPath }) => printable(`${vm}:${guestPath}`));
    });
}

function printPlan(cli: Cli, plan: WorkspacePlan): void {
  const { count, files, bytes, repositoryBytes } = plan;
  cli.print(plan, () =>
    files.map((file) => `${formatBytes(file.bytes).padStart(10)}  ${printable(file.path)}`).join('\n'),
  );
  for (const line of stayedBehind(plan)) cli.say(line);
  cli.say(
    `Would send ${counted(count, 'file')} (${formatBytes(bytes - repositoryBytes)}) and the repository (${formatBytes(repositoryBytes)})`,
  );
}

function remarks(result: ResultOf<typeof workspacePrepare>): string[] {
  // Said once: what is sent after that is of no other branch.
  const leftBehind = result.update ? { branches: 0, tags: 0, stashes: 0 } : result.leftBehind;
  return [
    ...stayedBehind({ ...result, leftBehind }),
    ...keptText(result.update?.kept ?? []),
    sentText(result),
  ];
}

/** Warnings, and what stayed behind. */
export function stayedBehind(
  tree: Parameters<typeof leftBehindText>[0] & { readonly warnings: readonly string[] },
): string[] {
  return [...warningTexts(tree), ...leftBehindText(tree)];
}

export function warningTexts({ warnings }: { readonly warnings: readonly string[] }): string[] {
  return warnings.map((warning) => `Warning: ${printable(warning)}`);
}

export function sentText({
  vm,
  files,
  bytes,
  created,
  update,
}: Pick<ResultOf<typeof workspacePrepare>, 'vm' | 'files' | 'bytes' | 'created' | 'update'>): string {
  const removed = update?.removed ? `, removed ${update.removed}` : '';
  return `Sent ${counted(files, 'file')} (${formatBytes(bytes)})${removed} to ${created ? 'the new ' : ''}VM "${vm}"`;
}

/** Changes that only the guest has. A few are named. */
function keptText(kept: readonly string[]): string[] {
  if (kept.length === 0) return [];
  const names = kept.slice(0, 5).map((path) => JSON.stringify(path));
  const more = kept.length > names.length ? ` and ${kept.length - names.length} more` : '';
  return [printable(`Changed in the VM, and left as they are there: ${names.join(', ')}${more}`)];
}

function counted(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
