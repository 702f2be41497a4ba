import { basename, resolve } from 'node:path';
import { Command } from 'commander';
import { imageImport, imageImportStream, imageView, type ImageView } from '../engine/rpc/image-methods.ts';
import type { Cli } from './cli.ts';
import { readyText } from './image-text.ts';
import { printDetached } from './operation-text.ts';
import { UsageError } from './usage-error.ts';

interface ImportOptions {
  readonly name?: string;
  readonly ref?: string;
  readonly detach?: boolean;
}

export function imageImportCommand(cli: Cli): Command {
  return new Command('import')
    .description('Make an image of a file: a rootfs tar, a docker save archive, or an OCI layout')
    .argument('<path>', 'file (plain, gzip, zstd or xz), OCI layout directory, or - for standard input')
    .option('--name <name>', 'name of the image (default: from the file name; needed with -)')
    .option('--ref <name>', 'which image, when the file holds several: its name or tag there')
    .option('--detach', 'return at once with the id of the operation, which goes on')
    .addHelpText(
      'after',
      '\nExamples:\n  docker save app | gzip > app.tar.gz && banger image import app.tar.gz' +
        '\n  banger image import layout/ --ref 1.2 --name app:1.2' +
        '\n  docker export box | banger image import - --name box',
    )
    .action(async (path: string, options: ImportOptions) => {
      if (path === '-') {
        refuseDetached(options);
        return cli.print(await importInput(cli, options), readyText);
      }
      const absolute = resolve(cli.cwd, path);
      const params = { path: absolute, name: options.name ?? defaultName(absolute), ref: options.ref };
      if (options.detach) return printDetached(cli, await cli.detach(imageImport, params));
      cli.print(await cli.call(imageImport, params), readyText);
    });
}

function refuseDetached({ detach }: { readonly detach?: boolean }): void {
  if (!detach) return;
  throw new UsageError(
    'Standard input ends with this command, so that it cannot be left with --detach',
    'Import a file: banger image import FILE --detach',
  );
}

async function importInput(cli: Cli, { name, ref }: ImportOptions): Promise<ImageView> {
  if (name === undefined)
    throw new UsageError(
      'Standard input has no name',
      'Give the image one: banger image import - --name NAME',
    );
  const { stream, isTerminal } = cli.standardInput();
  if (isTerminal)
    throw new UsageError(
      'Standard input is a terminal',
      'Redirect it: banger image import - --name NAME < FILE',
    );
  return imageView.parse(await cli.transfer(imageImportStream, { name, ref }, { input: stream }));
}

/** A valid name as close to the file's as can be: `My Image-1.2.tar.gz` becomes `my-image-1.2`. */
function defaultName(path: string): string {
  const stem = basename(path)
    .replace(/\.(?:gz|gzip|zst|zstd|xz)$/i, '')
    .replace(/\.(?:tar|tgz|txz|oci|docker)$/i, '');
  const name = stem
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/[._-]*-[._-]*/g, '-')
    .replace(/\.[._]+/g, '.')
    .replace(/_{3,}|_\./g, '_')
    .replace(/^[._-]+|[._-]+$/g, '');
  return name === '' || name === 'base' ? 'imported' : name;
}
