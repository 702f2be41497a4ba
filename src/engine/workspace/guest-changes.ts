import { BangerError } from '../../errors.ts';
import type { Guest, GuestExit, GuestOutput } from '../guest.ts';
import { parseChanges, type ParsedChanges } from './changes-format.ts';
import { lastLine } from './guest-git.ts';

/** A workspace in a running guest. */
export interface GuestWorkspace {
  readonly guest: Guest;
  /** Program that is git in this guest */
  readonly git: string;
  readonly guestPath: string;
  readonly baseTree: string;
  readonly vmName: string;
  readonly signal: AbortSignal;
}

/** What differs between a guest's workspace and what was sent. */
export interface GuestChanges extends ParsedChanges {
  /** Git tree of the workspace as it is now, in the guest */
  readonly tree: string;
}

/**
 * In the guest's repository: an index of the files as they were sent or last looked at, so that only those which
 * look changed are read. It has none of the marks by which git is told not to look at a file.
 */
export const knownIndexName = 'banger-known-index';

const maxPatchBytes = 64 * 1024 * 1024;

/** Settings under which git looks at a workspace: the guest's own are part of what may have changed. */
export const guestGitSettings = [
  'core.fsmonitor=false',
  'core.hooksPath=/dev/null',
  'core.attributesFile=/dev/null',
  'core.excludesFile=/dev/null',
  'core.quotePath=true',
  'core.safecrlf=false',
  'core.untrackedCache=false',
  // What was sent bears the times of the host's files; their inodes are the guest's own.
  'core.checkStat=minimal',
  'core.trustctime=false',
  'safe.directory=*',
].flatMap((setting) => ['-c', setting]);

export const guestGitEnvironment = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_TERMINAL_PROMPT: '0',
  LC_ALL: 'C',
};

/**
 * Prints the git tree of a workspace as it is: committed or not, staged or not, untracked files included, and
 * ignored ones that somebody added to git all the same.
 *
 * Goes through an index of its own. That index is inside the repository's directory, since git makes it by
 * renaming; the workspace's own index, references and files are left alone.
 */
const treeScript = `
path=$1 base=$2 git=$3
shift 2
cd "$path" || exit
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_NAMESPACE
export ${Object.entries(guestGitEnvironment)
  .map(([name, value]) => `${name}=${value}`)
  .join(' ')}
export GIT_CEILING_DIRECTORIES="\${path%/*}"
directory=$("$@" rev-parse --absolute-git-dir) || exit
index=$directory/banger-export-index known=$directory/${knownIndexName}
trap 'rm -f "$index" "$index.lock"' EXIT
rm -f "$index" "$index.lock"
mine() { GIT_INDEX_FILE="$index" "$@"; }
if ! { cp -p "$known" "$index" && mine "$@" read-tree --reset "$base"; } 2>/dev/null; then
  rm -f "$index" "$index.lock"
  mine "$@" read-tree "$base" || exit
fi
mine "$@" add -A || exit
"$@" ls-files -z --cached --ignored --exclude-standard | mine "$@" update-index --add --remove -z --stdin || exit
mine "$@" write-tree && mv -f "$index" "$known"
`;

/** Compares a guest's workspace with what was sent. Needs no more than the guest's disk; the host runs nothing. */
export async function readChanges(workspace: GuestWorkspace): Promise<GuestChanges> {
  const { guest, git, guestPath, baseTree, signal } = workspace;
  const written = await guest.runToolbox(
    ['sh', '-c', treeScript, 'banger', guestPath, baseTree, git, ...guestGitSettings],
    { signal },
  );
  if (written.exit.code !== 0) throw unreadable(workspace, written);
  const tree = written.stdout.toString('latin1').trim();
  if (!/^[0-9a-f]{40,64}$/.test(tree)) throw unreadable(workspace, written);
  if (tree === baseTree) return { tree, files: [], paths: [], nested: [] };

  const listed = await guest.run(diffCommand(workspace, tree, ['--raw', '--numstat', '-z']), {
    env: guestGitEnvironment,
    signal,
  });
  if (listed.exit.code !== 0) throw unreadable(workspace, listed);
  const changes = parseChanges(listed.stdout);
  if (changes) return { tree, ...changes };
  throw new BangerError(
    'command_failed',
    `VM "${workspace.vmName}" answered with something that is not a list of changes`,
  );
}

/** Reads the changes as a patch for `git apply`. At most 64 MiB. */
export async function readPatch(workspace: GuestWorkspace, tree: string): Promise<Buffer> {
  const { guest, signal } = workspace;
  const process = await guest.spawn(
    diffCommand(workspace, tree, ['-p', '--binary', '--full-index', '--ignore-submodules=all']),
    {
      env: guestGitEnvironment,
      signal,
    },
  );
  process.stdio.end();
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  let bytes = 0;
  process.stdio.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= maxPatchBytes) chunks.push(chunk);
    else process.close();
  });
  process.stderr.on('data', (chunk: Buffer) => {
    if (errors.length < 16) errors.push(chunk);
  });
  const exit = await process.exit.catch((error: unknown): GuestExit => {
    if (bytes > maxPatchBytes) return {};
    throw error;
  });
  if (bytes > maxPatchBytes) throw tooLarge(workspace);
  const stdout = Buffer.concat(chunks);
  if (exit.code === 0) return stdout;
  throw unreadable(workspace, { exit, stdout, stderr: Buffer.concat(errors).toString('utf8') });
}

function diffCommand({ git, guestPath, baseTree }: GuestWorkspace, tree: string, format: string[]): string[] {
  const fixed = ['-r', '--no-renames', '--no-ext-diff', '--no-textconv', '--no-color'];
  const prefixes = ['--src-prefix=a/', '--dst-prefix=b/'];
  return [
    git,
    '-C',
    guestPath,
    ...guestGitSettings,
    'diff-tree',
    ...fixed,
    ...prefixes,
    ...format,
    baseTree,
    tree,
  ];
}

function unreadable({ vmName, guestPath }: GuestWorkspace, output: GuestOutput): BangerError {
  return new BangerError(
    'command_failed',
    `git cannot read "${guestPath}" in VM "${vmName}"${lastLine(output)}`,
    { hint: `Look at it with: banger vm exec ${vmName} -- git -C ${guestPath} status` },
  );
}

function tooLarge({ vmName, guestPath }: GuestWorkspace): BangerError {
  const limit = `${maxPatchBytes / 1024 / 1024} MiB`;
  return new BangerError(
    'command_failed',
    `The changes in VM "${vmName}" make a patch of more than ${limit}`,
    {
      hint: `Add large files to .gitignore, or copy them: banger vm exec ${vmName} -- tar -c -C ${guestPath} FILE`,
    },
  );
}
