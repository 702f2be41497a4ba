import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Command } from 'commander';
import { workspaceList, type WorkspaceView } from '../engine/rpc/workspace-methods.ts';
import { printable } from '../printable.ts';
import type { Cli } from './cli.ts';
import { helperName } from './git-remote.ts';
import { sentIntoOption, sentToOption, sentWorkspace, type WorkspaceOptions } from './workspace-option.ts';

/** The rest of the help says how git finds the helper, which depends on where banger is. */
const help = (program: string): string => `
Git on this machine fetches from a VM, and never pushes into it. What the VM has is checked first, apart from your
repository: its commits and files are somebody else's until you have looked at them.

Git needs to find banger under the name ${helperName}. Once, in a directory of your PATH:
  ln -s ${program} ~/.local/bin/${helperName}

Examples:
  git remote add vm "$(banger workspace remote .)"
  git fetch vm                                     branches of the VM
  git diff HEAD...vm/main                          what was committed there
  git fetch vm refs/banger/worktree                what is not committed, too
  git diff FETCH_HEAD                              compare your tree with it
  git clone banger::web
  git fetch banger::web/root/project               of a VM with several workspaces`;

export function workspaceRemoteCommand(
  cli: Cli,
  env: Readonly<Record<string, string | undefined>>,
  program: string,
): Command {
  return new Command('remote')
    .description('Print the URL by which git on this machine fetches from the VM')
    .argument('[path]', 'a directory of the working tree (default: the current one, or all that --vm has)')
    .addOption(sentToOption())
    .addOption(sentIntoOption())
    .addHelpText('after', help(program))
    .action(async (path: string | undefined, options: WorkspaceOptions) => {
      const workspaces = await cli.call(workspaceList, sentWorkspace(cli, path, options));
      const helper = findProgram(helperName, env['PATH']);
      const remotes = workspaces.map(({ vm, hostPath, guestPath }) => ({
        url: remoteUrl({ vm, guestPath }),
        vm,
        hostPath,
        guestPath,
        helper,
      }));
      cli.print(remotes, (all) => all.map(({ url }) => printable(url)).join('\n'));
      if (helper === undefined) {
        cli.say(`Git does not find ${helperName} yet. In a directory of your PATH, once:`);
        cli.say(`  ln -s ${program} ~/.local/bin/${helperName}`);
      }
    });
}

function remoteUrl({ vm, guestPath }: Pick<WorkspaceView, 'vm' | 'guestPath'>): string {
  return `banger::${vm}${guestPath}`;
}

function findProgram(name: string, path = ''): string | undefined {
  return path
    .split(delimiter)
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
