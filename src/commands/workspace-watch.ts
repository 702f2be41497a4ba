import { resolve } from 'node:path';
import { Command } from 'commander';
import { workspaceWatch, type WatchLine } from '../engine/rpc/workspace-methods.ts';
import { printable, printableJsonText } from '../printable.ts';
import { addBranchOptions, guestBranchParam, type BranchOptions } from './branch-options.ts';
import type { Cli } from './cli.ts';
import { includedPaths, includeOption } from './include-option.ts';
import { sentText, stayedBehind, warningTexts } from './workspace-prepare.ts';

interface WatchOptions extends BranchOptions {
  readonly vm?: string;
  readonly guestPath?: string;
  readonly includeUntracked?: boolean;
  readonly include: readonly string[];
  readonly overwrite?: boolean;
}

const help = `
Files that were changed in the VM as well stay as they are there, and are named; the others are sent.
Ctrl-C ends it, and so does the end of the VM.

Examples:
  banger workspace watch . --vm web
  banger workspace watch . --branch fix   what you commit here arrives on a branch that only the VM has`;

export function workspaceWatchCommand(cli: Cli): Command {
  const command = new Command('watch')
    .description('Send a git working tree into a VM again whenever it changes')
    .argument('[path]', 'a directory of the working tree (default: the current one)')
    .option('--vm <name>', 'the VM (default: the one it was sent to before)')
    .option('--guest-path <path>', 'where it is in the VM (default: /root/ and the name of its directory)')
    .option('--include-untracked', 'send untracked files too, except ignored ones')
    .addOption(includeOption())
    .option('--overwrite', 'replace what is changed in the VM, too');
  return addBranchOptions(command)
    .addHelpText('after', help)
    .action(async (path: string | undefined, options: WatchOptions) => {
      const { vm, guestPath, includeUntracked, overwrite } = options;
      const params = {
        path: resolve(cli.cwd, path ?? '.'),
        vm,
        guestPath,
        includeUntracked,
        include: includedPaths(cli.cwd, path, options.include),
        overwrite,
        guestBranch: guestBranchParam(options),
      };
      let rest = '';
      let conflicts = '';
      const told = new Set<string>();
      let isFirst = true;
      const decoder = new TextDecoder();
      await cli.follow(workspaceWatch, params, async (bytes) => {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (cli.json) {
            await cli.write(`${printableJsonText(line)}\n`);
            continue;
          }
          const news = JSON.parse(line) as WatchLine;
          if (news.kind === 'sent') {
            // How much stays behind is said once: it is hardly different after the next change.
            const remarks = isFirst ? stayedBehind(news) : warningTexts(news);
            for (const remark of remarks) if (!told.has(remark)) cli.say(remark);
            isFirst = false;
            told.clear();
            for (const warning of warningTexts(news)) told.add(warning);
          }
          await cli.write(`${new Date().toTimeString().slice(0, 8)} ${printable(lineText(news))}\n`);
          const now = conflictText(news);
          if (now !== '' && now !== conflicts) cli.say(printable(now));
          conflicts = now;
        }
      });
    });
}

function lineText(line: WatchLine): string {
  if (line.kind === 'sent') return sentText(line);
  return line.hint === undefined ? line.message : `${line.message}. ${line.hint}`;
}

/** Said once, until it is about other files. */
function conflictText(line: WatchLine): string {
  const paths = line.kind === 'sent' ? (line.update?.conflicts ?? []) : [];
  if (paths.length === 0) return '';
  const names = paths.slice(0, 5).map((path) => JSON.stringify(path));
  const more = paths.length > names.length ? ` and ${paths.length - names.length} more` : '';
  return `Changed here and in the VM, and left as they are there: ${names.join(', ')}${more}. To replace them: --overwrite`;
}
