import { createHash } from 'node:crypto';
import { BangerError } from '../../errors.ts';
import type { Guest } from '../guest.ts';
import type { ToolFiles } from './tool-files.ts';

/** In guests. No tree is around it: see `parseGuestPath`. */
const parent = '/var/lib/banger/tools';

const writeScript = `
umask 022
[ "$3" != first ] || rm -rf "$1" || exit
mkdir -p "$1" || exit
case $2 in */*) mkdir -p "$1/\${2%/*}" || exit ;; esac
cat >"$1/$2"
`;

/**
 * Writes files that name tools, and nothing else, to a directory of their own in the guest, and returns it. Run there,
 * mise reads those and no file of the tree: what else it finds in one, and does, is another thing with each version.
 */
export async function writePlainFiles(
  guest: Guest,
  {
    guestPath,
    files,
    signal,
  }: { readonly guestPath: string; readonly files: ToolFiles; readonly signal: AbortSignal },
): Promise<string> {
  const directory = `${parent}/${createHash('sha256').update(guestPath).digest('hex').slice(0, 16)}`;
  for (const [at, { name, text }] of files.plain.entries()) {
    const argv = ['sh', '-c', writeScript, 'banger', directory, name, at === 0 ? 'first' : 'next'];
    const { exit, stderr } = await guest.runToolbox(argv, { input: Buffer.from(text), signal });
    if (exit.code === 0) continue;
    throw new BangerError(
      'command_failed',
      `The VM cannot hold "${directory}": ${stderr.trim().slice(-300)}`,
      {
        hint: 'See how much room there is in it: df -h; to go without the tools: --no-bootstrap',
      },
    );
  }
  return directory;
}
