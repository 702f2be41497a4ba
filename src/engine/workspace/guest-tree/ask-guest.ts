import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import type { Applied } from '../applying/since-applied.ts';
import type { ChangedPath, GitEntry } from './changes-format.ts';
import { unreadable, type GuestWorkspace } from './guest-changes.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import type { Manifest, SentFile } from '../sending/manifest.ts';
import { isTreePath, splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import { underWayPaths } from '../host-tree/repository-state.ts';

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
  const { baseTree } = workspace;
  const listed = await gitIn(workspace, ['ls-tree', '-r', '-z', '--full-tree', baseTree]);
  const files = new Map<RawPath, SentFile>();
  for (const line of splitRaw(listed.stdout)) {
    const [, mode, oid, path] = /^(\d{6}) [a-z]+ ([0-9a-f]{40,64})\t([^]+)$/.exec(line) ?? [];
    if (path !== undefined && isTreePath(path)) files.set(path, { mode: mode!, oid: oid! });
  }
  if (listed.exit.code === 0) return { baseTree, files, commits: head === undefined ? [] : [head] };
  throw unreadable(workspace, listed.stderr);
}

async function gitIn({ guest, ensureGit, guestPath, signal }: GuestWorkspace, args: readonly string[]) {
  return guest.run([await ensureGit(), '-C', guestPath, ...guestGitSettings, ...args], {
    env: guestGitEnvironment,
    signal,
  });
}

/** What git in a guest prints; undefined where it fails. */
export async function askGit(
  workspace: GuestWorkspace,
  args: readonly string[],
): Promise<Buffer | undefined> {
  const { exit, stdout } = await gitIn(workspace, args);
  return exit.code === 0 ? stdout : undefined;
}

/** Where nothing was sent to a guest that the next sending has files at, or directories on the way to those. */
export interface AskedPaths {
  readonly files: readonly RawPath[];
  readonly directories: readonly RawPath[];
}

/**
 * Paths come in after a letter, those that are files or symlinks go out after another; each ends with a zero byte. Where
 * a directory is in the way of a file, what is in it goes out without a letter.
 */
const existingScript = `
cd "$1" && exec xargs -0 sh -c '
for each; do
  path=\${each#?}
  if [ -L "$path" ]; then printf "l%s\\0" "$path"
  elif [ -f "$path" ] && [ -x "$path" ]; then printf "x%s\\0" "$path"
  elif [ -f "$path" ]; then printf "f%s\\0" "$path"
  elif [ -d "$path" ] && [ "$each" != "\${each#f}" ]; then find "$path" ! -type d -print0
  fi
done' banger
`;

const fileModes = { l: '120000', x: '100755', f: '100644' };

/** Tells which of these paths a guest has files at, whether git knows of them or not, and what is in them. */
export async function findFiles(
  workspace: GuestWorkspace,
  { files, directories }: AskedPaths,
): Promise<readonly ChangedPath[]> {
  if (files.length === 0 && directories.length === 0) return [];
  const { guest, guestPath, signal } = workspace;
  const words = [...files.map((path) => `f./${path}\0`), ...directories.map((path) => `d./${path}\0`)];
  const input = Buffer.from(words.join(''), 'latin1');
  const found = await guest.runToolbox(['sh', '-c', existingScript, 'banger', guestPath], { input, signal });
  if (found.exit.code !== 0) throw unreadable(workspace, found.stderr);
  const asked = new Set([...files, ...directories]);
  const changed: ChangedPath[] = [];
  for (const each of splitRaw(found.stdout)) {
    if (each.startsWith('./')) {
      // Whatever it is: it is not what the host has there.
      const path = each.slice('./'.length);
      if (isTreePath(path)) changed.push({ path, after: { mode: fileModes.f, oid: '' } });
      continue;
    }
    const path = each.slice('f./'.length);
    if (!asked.has(path)) continue;
    const isLink = each.startsWith('l');
    // What a link leads to is not asked: it is another than the host's until somebody has looked.
    const oid = isLink ? '' : await hashOf(workspace, path);
    changed.push({ path, after: { mode: fileModes[each[0] as keyof typeof fileModes], oid } });
  }
  return changed;
}

/** Which of these paths are files or symlinks in a guest, whether git knows of them or not. */
export async function findExisting(
  { guest, guestPath, signal, ...workspace }: GuestWorkspace,
  paths: readonly RawPath[],
): Promise<ReadonlySet<RawPath>> {
  if (paths.length === 0) return new Set();
  const input = Buffer.from(paths.map((path) => `d./${path}\0`).join(''), 'latin1');
  const found = await guest.runToolbox(['sh', '-c', existingScript, 'banger', guestPath], { input, signal });
  if (found.exit.code !== 0) throw unreadable({ guest, guestPath, signal, ...workspace }, found.stderr);
  return new Set(splitRaw(found.stdout).map((each) => each.slice('f./'.length)));
}

async function hashOf(workspace: GuestWorkspace, path: RawPath): Promise<string> {
  // Programs get their arguments as UTF-8: one that is not counts as another file.
  const name = Buffer.from(path, 'latin1').toString('utf8');
  const hashed = await gitIn(workspace, ['hash-object', '--no-filters', '--', `./${name}`]);
  return hashed.exit.code === 0 ? hashed.stdout.toString('latin1').trim() : '';
}

/** What is known of a guest's workspace. */
interface Known {
  readonly manifest: Manifest;
  /** What of its changes went into the host's tree */
  readonly applied?: Applied;
  readonly changes: { readonly paths: readonly ChangedPath[] };
  /** What it has committed, and keeps */
  readonly committed?: ReadonlyMap<RawPath, GitEntry | undefined>;
}

/**
 * Paths of which a guest has staged what is nowhere else: not in the file, not in the index that was sent, not in a commit
 * that stays, and not applied. Those would be lost with its index.
 */
export async function findStaged(
  { manifest, applied, changes, committed }: Known,
  workspace: GuestWorkspace,
): Promise<RawPath[]> {
  if (manifest.index === undefined || manifest.staged === undefined) return [];
  const listed = await gitIn(workspace, ['ls-files', '-s', '-z']);
  if (listed.exit.code !== 0) throw unreadable(workspace, listed.stderr);
  const { files, staged } = manifest;
  const inFiles = new Map(changes.paths.map(({ path, after }) => [path, after?.oid] as const));
  return splitRaw(listed.stdout).flatMap((line) => {
    const [, mode, oid, stage, path] = /^(\d{6}) ([0-9a-f]{40,64}) ([0-3])\t([^]+)$/.exec(line) ?? [];
    if (path === undefined || !isTreePath(path) || mode === submoduleMode) return [];
    // A file may be called as what every object has.
    const before = Object.hasOwn(staged, path) ? staged[path]! : '';
    if (before.includes(oid!) || files.get(path)?.oid === oid) return [];
    if ([applied?.paths.get(path)?.guest, committed?.get(path)].some((entry) => entry?.oid === oid))
      return [];
    return inFiles.get(path) === oid || stage !== '0' ? [] : [path];
  });
}
