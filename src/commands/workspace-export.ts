import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { BangerError } from '../errors.ts';
import { printable, printableLines } from '../printable.ts';
import type { ExportHead, exportFormats } from '../engine/rpc/workspace-methods.ts';
import { changesSummary, commitsSummary, nameLine } from './changes-text.ts';
import type { Cli } from './cli.ts';
import { diffstat } from './diffstat.ts';
import { receiveExport } from './receive-export.ts';
import { saveMails } from './save-mails.ts';
import { saveOutput } from './save-output.ts';
import { UsageError } from './usage-error.ts';
import { sentIntoOption, sentToOption, sentWorkspace, type WorkspaceOptions } from './workspace-option.ts';

interface ExportOptions extends WorkspaceOptions {
  readonly output?: string;
  readonly nameOnly?: boolean;
  readonly null?: boolean;
  readonly stat?: boolean;
  readonly commits?: boolean;
}

/** More than this is for a file, not for a string of JSON. */
const maxJsonBytes = 256 * 1024 * 1024;

const help = `
The patch has all that changed, commits made in the VM included, and may have up to 4 GiB. With --commits those commits
come one by one instead, as mails for git am: an mbox, or a file for each with -o DIR. A merge is one mail with all that it
brought. Changes that are not committed in the VM are not in them, which is said. --keep-cr lets git am take files with
CRLF as they are.

Examples:
  banger workspace export . | git apply
  banger workspace export . --stat
  banger workspace export . --commits | git am --keep-cr
  banger workspace export . --name-only -z | xargs -0 ls -l`;

export function workspaceExportCommand(cli: Cli): Command {
  return new Command('export')
    .description('Print what changed in the VM since the tree was sent, as a patch for git apply')
    .argument('[path]', 'a directory of the working tree (default: the current one, or all that --vm has)')
    .addOption(sentToOption())
    .addOption(sentIntoOption())
    .option('-o, --output <file>', 'write the patch to a file; with --commits, mails to a directory')
    .option('--stat', 'print a diffstat, not the patch')
    .addOption(new Option('--name-only', 'print the names of changed files, not the patch').conflicts('stat'))
    .option('-z, --null', 'with --name-only: names as they are, with a zero byte after each')
    .addOption(
      new Option('--commits', 'print the commits made in the VM, as mails for git am').conflicts([
        'stat',
        'nameOnly',
      ]),
    )
    .addHelpText('after', help)
    .action(async (path: string | undefined, options: ExportOptions) => {
      if (options.null && !options.nameOnly)
        throw new UsageError('-z is about names', 'Give it together with --name-only');
      const params = sentWorkspace(cli, path, options);
      if (options.commits) return exportCommits(cli, params, options.output);
      return exportChanges(cli, params, options);
    });
}

type Place = ReturnType<typeof sentWorkspace>;

async function exportChanges(cli: Cli, place: Place, options: ExportOptions): Promise<void> {
  const { output, stat, nameOnly } = options;
  if (output === undefined && !stat && !nameOnly) return exportPatch(cli, place);
  const path = output === undefined ? undefined : resolve(cli.cwd, output);
  const head =
    path === undefined ? await receiveExport(cli, { ...place, format: 'list' }, nothing) : await saveTo(path);
  tell(cli, head);
  if (nameOnly && options.null && !cli.json) {
    await cli.write(head.files.map((file) => `${file.path}\0`).join(''));
    return;
  }
  cli.print({ ...head, path }, ({ files }) => {
    if (stat) return diffstat(files, cli.columns);
    return nameOnly ? files.map(nameLine).join('\n') : '';
  });

  function saveTo(file: string): Promise<ExportHead> {
    return saveOutput(cli, file, (ends) => receiveExport(cli, { ...place, format: 'patch' }, ends));
  }
}

const nothing = { output: async () => undefined };

async function exportPatch(cli: Cli, place: Place): Promise<void> {
  await printPieces(cli, place, { format: 'patch', key: 'patch' }, (head) => tell(cli, head));
}

async function exportCommits(cli: Cli, place: Place, output: string | undefined): Promise<void> {
  if (output === undefined) {
    return printPieces(cli, place, { format: 'commits', key: 'mbox' }, (head) => tellCommits(cli, head));
  }
  const directory = resolve(cli.cwd, output);
  const { head, files } = await saveMails(directory, (ends) =>
    receiveExport(cli, { ...place, format: 'commits' }, ends),
  );
  tellCommits(cli, head);
  cli.print({ ...head, path: directory, mails: files }, () => files.map(printable).join('\n'));
}

/** Prints what comes: as it is, for a terminal without what it would obey, or under `key` of a JSON object. */
async function printPieces(
  cli: Cli,
  place: Place,
  { format, key }: { readonly format: (typeof exportFormats)[number]; readonly key: string },
  tellOf: (head: ExportHead) => void,
): Promise<void> {
  let hasTold = false;
  const tellOnce = (head: ExportHead): void => {
    if (!hasTold) tellOf(head);
    hasTold = true;
  };
  const pieces: Buffer[] = [];
  let bytes = 0;
  const decoder = new TextDecoder();
  const head = await receiveExport(
    cli,
    { ...place, format },
    {
      output: async (piece, about) => {
        tellOnce(about);
        bytes += piece.length;
        if (!cli.json) {
          // On a terminal it is looked at, and a guest wrote it; in a pipe it is applied.
          const shown = cli.printsToTerminal
            ? printableLines(decoder.decode(piece, { stream: true }))
            : piece;
          return cli.write(shown);
        }
        if (bytes > maxJsonBytes) throw tooLongForJson();
        pieces.push(piece);
      },
    },
  );
  tellOnce(head);
  if (cli.json) cli.print({ ...head, [key]: Buffer.concat(pieces).toString('base64') }, () => '');
}

function tell(cli: Cli, head: ExportHead): void {
  for (const warning of head.warnings) cli.say(`Warning: ${printable(warning)}`);
  cli.say(changesSummary(head));
}

function tellCommits(cli: Cli, head: ExportHead): void {
  for (const warning of head.warnings) cli.say(`Warning: ${printable(warning)}`);
  for (const line of commitsSummary(head)) cli.say(line);
}

function tooLongForJson(): BangerError {
  return new BangerError('invalid_argument', 'The changes are too long for one JSON value', {
    hint: 'Write them to a file with: -o FILE',
  });
}
