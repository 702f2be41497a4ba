import { BangerError } from '../../errors.ts';
import type { Guest } from '../guest.ts';
import { toolFileNames } from './tool-files.ts';

/** Where programs are besides PATH: mise's installer, and images that bring it, put it there. */
export const miseDirectories = ['/usr/local/bin', '/root/.local/bin', '/usr/bin', '/opt/mise/bin'];

/** Says which of the files is there, if any, and then where mise is, if anywhere; a line each. */
const lookScript = `
cd "$1" 2>/dev/null || exit 0
shift
found=
for file in "$@"; do [ ! -f "$file" ] || { found=$file; break; }; done
[ -n "$found" ] || exit 0
echo "$found"
IFS=:
for directory in $PATH:${miseDirectories.join(':')}; do
  [ -f "$directory/mise" ] && [ -x "$directory/mise" ] || continue
  echo "$directory/mise"
  exit 0
done
`;

export interface MiseInGuest {
  /** Absent when the tree in the guest names no tools */
  readonly file?: string;
  /** Absolute; absent when there is no mise */
  readonly program?: string;
}

/** Looks whether the tree in the guest names tools, and whether mise is there. */
export async function findMise(guest: Guest, guestPath: string, signal: AbortSignal): Promise<MiseInGuest> {
  const argv = ['sh', '-c', lookScript, 'sh', guestPath, ...toolFileNames];
  const { stdout } = await guest.runToolbox(argv, { signal });
  const [file, program] = stdout.toString('utf8').split('\n');
  if (!file) return {};
  return program?.startsWith('/') ? { file, program } : { file };
}

/** Its own exit codes say what is missing. */
const fetchScript = `
file=$(mktemp) || exit 1
trap 'rm -f "$file"' EXIT
if command -v curl >/dev/null 2>&1; then curl -fsSL --connect-timeout 20 --max-time 120 -o "$file" "$1" || exit 81
elif command -v wget >/dev/null 2>&1; then wget -q -T 20 -O "$file" "$1" || exit 81
else exit 82
fi
MISE_INSTALL_PATH=${miseDirectories[0]}/mise MISE_INSTALL_HELP=0 sh "$file" || exit 83
`;

/** The program that has the guest fetch mise from `installer`, with what its image has for that. */
export function fetchArgv(installer: string): readonly string[] {
  return ['sh', '-c', fetchScript, 'sh', installer];
}

/**
 * Why a guest could not fetch mise, after `fetchArgv` has ended with this code, in words that follow "and": its image or
 * its network is without what that takes. Undefined when it could.
 */
export function whyNotFetched(code: number | undefined, installer: string): string | undefined {
  if (code === 81) return `the guest cannot fetch it from ${installer}`;
  if (code === 82) return 'has neither curl nor wget to fetch it with';
  if (code === 127) return 'has no shell to install it with';
  return undefined;
}

export function installerError(file: string): BangerError {
  return new BangerError(
    'command_failed',
    `"${file}" asks for tools, the image has no mise, and its installer failed`,
    { hint: 'Use an image that has mise or the tools (--image), or go without: --no-bootstrap' },
  );
}

/**
 * Gives the shell that reads it what mise has for a directory. Not for the one that it is in: nobody has agreed to what
 * is further down in a tree. A mise file that is wrong, or not trusted, must lock
 * nobody out: mise says why, and it goes on without.
 */
const takeTools = `
if _banger_tools=$(cd "$2" && "$1" env -s bash </dev/null); then eval "$_banger_tools"
else echo 'banger: no tools and variables of mise here, for the reason above' >&2
fi
unset _banger_tools
`;

const programScript = `${takeTools}
shift 2
exec "$@"
`;

/** Root's own shell, in the environment that a login makes; what reads profiles must not undo what mise gives. */
const shellScript = `
IFS=: read -r _ _ _ _ _ _ shell </etc/passwd
case $shell in */nologin | */false | '') shell=/bin/sh ;; esac
${takeTools}
exec "$shell"
`;

/**
 * A program, or a shell when there is none, with the tools that mise gives it. Not by `mise exec`: that would answer for
 * a program that is not there, with a code of its own, and install what is missing before each program.
 */
export function withMise(
  { mise, directory }: { readonly mise: string; readonly directory: string },
  argv: readonly string[] | undefined,
): readonly string[] {
  return argv
    ? ['sh', '-c', programScript, 'banger', mise, directory, ...argv]
    : ['sh', '-lc', shellScript, 'banger', mise, directory];
}
