import { resolve } from 'node:path';
import { Command } from 'commander';
import type { ResultOf } from '../engine/rpc/method.ts';
import { workspacePrepare } from '../engine/rpc/workspace-methods.ts';
import { addTemplateOptions, chooseTemplate, type TemplateOptions } from './tree-template.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { printable } from '../printable.ts';

interface PrepareOptions extends TemplateOptions {
  readonly vm?: string;
  readonly guestPath?: string;
  readonly includeUntracked?: boolean;
  readonly overwrite?: boolean;
}

export function workspacePrepareCommand(cli: Cli): Command {
  const command = new Command('prepare')
    .description('Send a git working tree into a VM, changes that are not committed included')
    .argument('[path]', 'a directory of the working tree (default: the current one)')
    .option('--vm <name>', 'the VM (default: the one it was sent to before, else a new one)')
    .option('--guest-path <path>', 'where it goes in the VM (default: /root/ and the name of its directory)')
    .option('--include-untracked', 'send untracked files too, except ignored ones')
    .option('--overwrite', 'replace what is in the VM, changes made there included');
  return addTemplateOptions(command)
    .addHelpText('after', '\nExample:\n  banger workspace prepare . --vm web')
    .action(async (path: string | undefined, options: PrepareOptions) => {
      const tree = resolve(cli.cwd, path ?? '.');
      // What the tree says is for VMs that are made for it.
      const isNew = options.vm === undefined;
      const template = isNew ? await chooseTemplate(cli, tree, { ...options, unlessBound: true }) : undefined;
      const result = await cli.call(workspacePrepare, {
        path: tree,
        template,
        bootstrap: options.bootstrap,
        vm: options.vm,
        guestPath: options.guestPath,
        includeUntracked: options.includeUntracked ?? false,
        overwrite: options.overwrite ?? false,
      });
      for (const line of remarks(result)) cli.say(line);
      cli.print(result, ({ vm, guestPath }) => printable(`${vm}:${guestPath}`));
    });
}

function remarks(result: ResultOf<typeof workspacePrepare>): string[] {
  const { vm, files, bytes, untracked } = result;
  const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
  return [
    ...result.warnings.map((warning) => `Warning: ${printable(warning)}`),
    ...(untracked > 0
      ? [`${count(untracked, 'untracked file')} stayed behind; to send untracked files: --include-untracked`]
      : []),
    `Sent ${count(files, 'file')} (${formatBytes(bytes)}) to ${result.created ? 'the new ' : ''}VM "${vm}"`,
  ];
}
