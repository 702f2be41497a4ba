import { Readable } from 'node:stream';
import { BangerError } from '../../errors.ts';
import type { Guest } from '../guest.ts';
import { tarOfFiles, type ReadableFile } from './readable-files.ts';

/** 64 MiB into an emulated guest of a busy host. */
const timeoutMs = 5 * 60_000;

/**
 * Takes a tar of what is called 0, 1, 2 … and puts each at its path. A file is there as it was until the new one is
 * complete; a directory is merged into one that is there. What is new belongs to whom the directory belongs that it
 * goes into, so that it is its user's in a home; so do directories that are made for it, with the mode of that one.
 */
const placeScript = `
umask 077
rm -rf "$1"/.banger-sync-*
stage=$(mktemp -d "$1/.banger-sync-XXXXXX") || exit
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
tar -x -p -f - -C "$stage" || exit
shift
number=0
for target; do
  new=$stage/$number number=$((number + 1))
  parent=\${target%/*} above=\${target%/*} first=
  while [ -n "$above" ] && [ ! -e "$above" ]; do first=$above above=\${above%/*}; done
  owner=$(stat -L -c %u:%g "\${above:-/}") || exit
  if [ -n "$first" ]; then
    mode=$(stat -L -c %a "$above/") && mkdir -p "$parent" && chmod -R "$mode" "$first" && chown -R "$owner" "$first" || exit
  fi
  [ ! -d "$target" ] || owner=$(stat -L -c %u:%g "$target") || exit
  chown -hR "$owner" "$new" || exit
  if [ -d "$target" ] && [ ! -d "$new" ]; then
    echo "$target is a directory there" >&2
    exit 1
  elif [ -d "$target" ]; then
    chmod "$(stat -L -c %a "$target")" "$new" || exit
    { tar -c -f - -C "$new" . || echo >"$stage/failed"; } | tar -x -p -f - -C "$target" && [ ! -e "$stage/failed" ] || exit 1
  else
    mv -f -T "$new" "$target" || exit
  fi
done`;

/** Puts files of the host in their places in a guest. `root` is where the guest's files are. */
export async function placeFiles(
  guest: Guest,
  files: readonly ReadableFile[],
  {
    signal,
    vmName,
    root = '',
  }: { readonly signal: AbortSignal; readonly vmName: string; readonly root?: string },
): Promise<void> {
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const targets = files.map(({ file }) => `${root}${file.guest}`);
  const input = Readable.from(tarOfFiles(files), { objectMode: false });
  let broken: unknown;
  input.once('error', (error) => (broken = error));
  const argv = ['sh', '-c', placeScript, 'banger', root, ...targets];
  const output = await guest.runToolbox(argv, { signal: bounded, input }).catch((error: unknown) => {
    throw broken ?? error;
  });
  if (broken !== undefined) throw broken;
  if (output.exit.code === 0) return;
  const words = output.stderr.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
  throw new BangerError('command_failed', `VM "${vmName}" did not take files of this host: ${words}`, {
    hint: `Which they are: banger vm show ${vmName}`,
  });
}
