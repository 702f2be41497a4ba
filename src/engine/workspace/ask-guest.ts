import { BangerError } from '../../errors.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import type { GuestWorkspace } from './guest-changes.ts';
import { lastLine } from './guest-git.ts';
import type { Manifest, SentFile } from './manifest.ts';
import { isTreePath, splitRaw, type RawPath } from './raw-path.ts';
import { underWayPaths } from './repository-state.ts';

/**
 * Prints the commit at HEAD, nothing when there is none yet, and whether a merge or the like is under way. Git would take
 * a hundred times as long to start.
 */
const headScript = `
cd "$1/.git" || exit
for path in ${underWayPaths.join(' ')}; do
  if [ -e "$path" ]; then echo under way; break; fi
done
read -r head <HEAD || exit
case $head in 'ref: '*) ;; *) echo "$head"; exit 0 ;; esac
reference=\${head#ref: }
if [ -f "$reference" ]; then read -r head <"$reference" && echo "$head"; exit 0; fi
[ -f packed-refs ] || exit 0
while read -r commit name; do
  if [ "$name" = "$reference" ]; then echo "$commit"; fi
done <packed-refs
`;

export interface GuestHead {
  /** HEAD is the commit that it is compared with, or none: nobody has committed or moved it */
  readonly isHeadKnown: boolean;
  /** Git is in the middle of something */
  readonly isUnderWay: boolean;
}

/** Compares a guest's HEAD with a commit, or with none yet when that is absent. */
export async function readGuestHead(
  { guest, guestPath, signal }: GuestWorkspace,
  head: string | undefined,
): Promise<GuestHead> {
  const { exit, stdout } = await guest.runToolbox(['sh', '-c', headScript, 'banger', guestPath], { signal });
  const lines = stdout.toString('latin1').split('\n').filter(Boolean);
  const isUnderWay = lines[0] === 'under way';
  const found = lines.slice(isUnderWay ? 1 : 0).join('\n');
  return { isUnderWay, isHeadKnown: exit.code === 0 && found === (head ?? '') };
}

/** Finds out from the guest what it was sent, as far as git there knows. It is no more than a guess of its own state. */
export async function askForManifest(workspace: GuestWorkspace, head: string | undefined): Promise<Manifest> {
  const { baseTree, guestPath, vmName } = workspace;
  const listed = await gitIn(workspace, ['ls-tree', '-r', '-z', '--full-tree', baseTree]);
  const files = new Map<RawPath, SentFile>();
  for (const line of splitRaw(listed.stdout)) {
    const [, mode, oid, path] = /^(\d{6}) [a-z]+ ([0-9a-f]{40,64})\t([^]+)$/.exec(line) ?? [];
    if (path !== undefined && isTreePath(path)) files.set(path, { mode: mode!, oid: oid! });
  }
  if (listed.exit.code === 0) return { baseTree, files, commits: head === undefined ? [] : [head] };
  throw new BangerError(
    'command_failed',
    `git cannot read "${guestPath}" in VM "${vmName}"${lastLine(listed)}`,
    { hint: `Look at it with: banger vm exec ${vmName} -- git -C ${guestPath} status` },
  );
}

async function gitIn({ guest, ensureGit, guestPath, signal }: GuestWorkspace, args: readonly string[]) {
  return guest.run([await ensureGit(), '-C', guestPath, ...guestGitSettings, ...args], {
    env: guestGitEnvironment,
    signal,
  });
}
