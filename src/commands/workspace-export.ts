import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { BangerError, errnoOf } from '../errors.ts';
import { workspaceExport } from '../engine/rpc/workspace-methods.ts';
import { changesSummary, nameLine, statLine } from './changes-text.ts';
import type { Cli } from './cli.ts';
import { printable, printableLines } from '../printable.ts';

interface ExportOptions {
  readonly vm?: string;
  readonly output?: string;
  readonly nameOnly?: boolean;
  readonly stat?: boolean;
}

export function workspaceExportCommand(cli: Cli): Command {
  return new Command('export')
    .description('Print what changed in the VM since the tree was sent, as a patch for git apply')
    .argument('[path]', 'a directory of the working tree (default: the current one, or all that --vm has)')
    .option('--vm <name>', 'the VM (default: the one the tree was last sent to)')
    .option('-o, --output <file>', 'write the patch to a file')
    .option('--name-only', 'print the names of changed files, not the patch')
    .option('--stat', 'print changed files and how many lines, not the patch')
    .addHelpText('after', '\nExample:\n  banger workspace export . | git apply')
    .action(async (path: string | undefined, options: ExportOptions) => {
      const isVmAlone = path === undefined && options.vm !== undefined;
      const result = await cli.call(workspaceExport, {
        path: isVmAlone ? undefined : resolve(cli.cwd, path ?? '.'),
        vm: options.vm,
      });
      for (const warning of result.warnings) cli.say(`Warning: ${printable(warning)}`);
      cli.say(changesSummary(result));
      const patch = Buffer.from(result.patch, 'base64');
      if (options.output !== undefined) await writePatch(resolve(cli.cwd, options.output), patch);
      if (cli.json || options.nameOnly || options.stat) {
        cli.print(result, ({ files }) =>
          (options.stat ? files.map(statLine) : files.map(nameLine)).join('\n'),
        );
      } else if (options.output === undefined) {
        // On a terminal it is looked at, and a guest wrote it; in a pipe it is applied.
        await cli.write(cli.printsToTerminal ? printableLines(patch.toString()) : patch);
      }
    });
}

async function writePatch(file: string, patch: Buffer): Promise<void> {
  try {
    await writeFile(file, patch);
  } catch (error) {
    throw new BangerError('invalid_argument', `"${file}" cannot be written: ${errnoOf(error)}`, {
      cause: error,
    });
  }
}
