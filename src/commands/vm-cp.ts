import { Command } from 'commander';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { copyFromGuest, copyToGuest } from './copy/copy-files.ts';
import { parseCopyPlace, type CopyPlace } from './copy/copy-place.ts';
import { UsageError } from './usage-error.ts';

interface CpOptions {
  readonly followLink?: boolean;
  readonly archive?: boolean;
  readonly quiet?: boolean;
}

const help = `
A path in a VM is VM:PATH. It counts from /; ~ is /root. A local file with a colon in its name is ./FILE.
A directory goes into a destination that exists, and becomes one that does not; SRC/. means what is in it.
With - a tar comes from standard input, plain, gzip or zstd, or goes to standard output.
In the VM files become root's, here they become yours; -a keeps their owners (here only as root).

Examples:
  banger vm cp web:/var/log/app.log .            a file here
  banger vm cp ./site web:/srv                   /srv/site in the VM
  banger vm cp ./site/. web:/srv                 what is in it, in /srv
  banger vm cp web:/etc - | tar -t               a tar of it
  banger vm cp a:/data - | banger vm cp - b:/    from VM to VM`;

export function vmCpCommand(cli: Cli): Command {
  return new Command('cp')
    .description('Copy files between a running VM and this host')
    .argument('<source>', 'VM:PATH, a path of this host, or - for a tar on standard input')
    .argument('<destination>', 'the same; - is standard output')
    .option('-L, --follow-link', 'copy what a symlink leads to, when the source is one')
    .option('-a, --archive', 'keep the numbers of users and groups')
    .option('-q, --quiet', 'do not say what was copied')
    .addHelpText('after', help)
    .action(async (from: string, to: string, options: CpOptions) => {
      const source = parseCopyPlace(from, cli.cwd);
      const destination = parseCopyPlace(to, cli.cwd);
      const count = await copy(cli, { source, destination }, options);
      for (const note of count.notes) cli.say(`Note: ${note}`);
      const result = {
        source: from,
        destination: to,
        files: count.files,
        bytes: count.bytes,
        notes: [...count.notes],
      };
      if (cli.json && to !== '-') cli.print(result, () => '');
      if (options.quiet) return;
      const files = `${count.files} ${count.files === 1 ? 'file' : 'files'}`;
      if (to !== '-') cli.say(`Copied ${files}, ${formatBytes(count.bytes)}, to ${to}`);
    });
}

function copy(
  cli: Cli,
  { source, destination }: { readonly source: CopyPlace; readonly destination: CopyPlace },
  options: CpOptions,
): ReturnType<typeof copyToGuest> {
  const how = { follow: options.followLink ?? false, archive: options.archive ?? false };
  if (source.kind === 'guest' && destination.kind === 'guest')
    throw new UsageError(
      'One of the two must be on this host',
      `Copy through a tar: banger vm cp ${source.typed} - | banger vm cp - ${destination.vm}:DIRECTORY`,
    );
  if (source.kind === 'guest' && destination.kind !== 'guest')
    return copyFromGuest(cli, { source, destination }, how);
  if (source.kind !== 'guest' && destination.kind === 'guest')
    return copyToGuest(cli, { source, destination }, how);
  throw new UsageError(
    'Neither of the two is in a VM',
    'Name the VM before a colon: banger vm cp VM:/path ./here, or banger vm cp ./here VM:/path',
  );
}
