import { BangerError } from '../../../errors.ts';
import type { Workspace, WorkspaceSend } from '../../../state/workspaces.ts';
import { keepApplied, readApplied } from '../applying/applied-record.ts';
import { askForManifest } from '../guest-tree/ask-guest.ts';
import { giveBackScript, guestGitEnvironment, guestGitSettings } from '../guest-tree/changes-script.ts';
import type { GuestWorkspace } from '../guest-tree/guest-changes.ts';
import { complaint } from '../guest-tree/guest-git.ts';
import { knownPathsName, ownIndexName } from '../guest-tree/known-index.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { readManifest, writeManifest } from './manifest.ts';
import type { ManifestPlace } from './record-files.ts';
import { updateNames } from './update-names.ts';

/** Makes the base's tree another one, and prints its name. May be ended and run again. */
const baseScript = `
cd "$1" || exit
base=$2
shift 2
export GIT_INDEX_FILE=${updateNames.index}
rm -f "$GIT_INDEX_FILE" "$GIT_INDEX_FILE.lock"
"$@" read-tree "$base" && "$@" update-index --replace -z --index-info && tree=$("$@" write-tree --missing-ok) || exit
rm -f "$GIT_INDEX_FILE" .git/${knownPathsName} .git/${ownIndexName}
echo "$tree" >.git/refs/banger/base.new && mv -f .git/refs/banger/base.new .git/refs/banger/base || exit
directory=.git${giveBackScript}
echo "$tree"
`;

export interface SentUpdate extends Pick<GuestWorkspace, 'guest' | 'vmName' | 'ensureGit' | 'signal'> {
  readonly send: WorkspaceSend;
  /** What is recorded of the place so far */
  readonly known: Workspace | undefined;
  readonly recorded: ManifestPlace;
}

/**
 * Where an update left what was there, as somebody has changed it since the update began: that was made of what was sent
 * before, so the base has that, too. Otherwise it would be a change of the new file, and take back what the host did. Returns
 * the sending as it is to be recorded. May be ended and run again, until that is.
 */
export async function keepBefore(
  { guest, vmName, ensureGit, signal, send, known, recorded }: SentUpdate,
  kept: readonly RawPath[],
): Promise<WorkspaceSend> {
  if (kept.length === 0 || !known) return send;
  const { token, workspace } = send;
  const { guestPath } = workspace;
  const inGuest = { guest, vmName, ensureGit, signal, guestPath };
  const before =
    (await readManifest(recorded, known)) ??
    (await askForManifest({ ...inGuest, baseTree: known.baseTree }, known.head));
  const next = await readManifest(recorded, { token, baseTree: workspace.baseTree });
  const paths = kept.filter((path) => before.files.has(path) || !next || next.files.has(path));
  const git = [await ensureGit(), ...guestGitSettings];
  const none = '0'.repeat(workspace.baseTree.length);
  const lines = paths.map((path) => {
    const file = before.files.get(path);
    return `${file?.mode ?? 0} ${file?.oid ?? none}\t${path}\0`;
  });
  // Removals first: a directory may be in the way of a file.
  lines.sort((a, b) => Number(b.startsWith('0 ')) - Number(a.startsWith('0 ')));
  const made = await guest.runToolbox(
    ['sh', '-c', baseScript, 'banger', guestPath, workspace.baseTree, ...git],
    {
      env: guestGitEnvironment,
      input: Buffer.from(lines.join(''), 'latin1'),
      signal,
    },
  );
  const baseTree = made.stdout.toString('latin1').trim();
  if (made.exit.code !== 0 || baseTree.length !== none.length) {
    throw new BangerError(
      'command_failed',
      `"${guestPath}" in VM "${vmName}" is updated but for what was changed there meanwhile, which git there cannot note${complaint(made)}`,
      {
        hint: `See how much room there is: banger vm exec ${vmName} -- df -h; the next prepare or export goes on`,
      },
    );
  }
  if (next) {
    const files = new Map(next.files);
    for (const path of paths) {
      const file = before.files.get(path);
      if (file) files.set(path, file);
      else files.delete(path);
    }
    const applied = await readApplied(recorded, { token, baseTree: workspace.baseTree }, inGuest);
    await writeManifest(recorded, token, { ...next, baseTree, files });
    const isKept = new Set(paths);
    const stays = [...(applied?.paths ?? [])].filter(([path]) => !isKept.has(path));
    await keepApplied(recorded, token, applied && { ...applied, baseTree, paths: new Map(stays) });
  }
  return { ...send, workspace: { ...workspace, baseTree } };
}
