import type { GuestOutput } from '../../guest.ts';
import { lookProgram } from '../guest-tree/quick-look.ts';
import { changedMeanwhile, updateNames } from './update-names.ts';

/**
 * Prints which of the paths that come in, each ended by a zero byte, were changed since they were looked at: an upload
 * may take minutes, in which somebody works there. A file that takes another's place may be old, and is known by when
 * it got there; git's own files have got a second name since, which counts as that, but are always written anew. A guest
 * of an older build has no program of ours for it.
 */
export const changedScript = `
changed() {
  if [ -x ${lookProgram} ]; then
    ${lookProgram} -n . && return
    [ $? = 3 ] || return 1
  fi
  # Somebody has emptied the repository: what else was done there is not to be found out.
  mark=$(TZ=UTC0 stat -c %y ${updateNames.looked} 2>/dev/null) || return 0
  xargs -0 -r sh -c 'find "$@" ! -type d -print0 2>/dev/null; exit 0' find |
    TZ=UTC0 xargs -0 -r stat -c '%y %z %n' 2>/dev/null |
    awk -v mark="$mark" '/^[0-9-]+ [0-9:.]+ [+]0000 / {
      name = substr($0, index($0, " ./") + 3)
      time = index(name, ".git/") == 1 ? $1 " " $2 : $4 " " $5
      if (time > substr(mark, 1, length(time))) print name
    }'
}
`;

/** After `newer` was set to what was changed: ends the script when there is something. */
export const exitIfChanged = `
if [ -n "$newer" ]; then
  printf '%s\\n' "$newer"
  exit ${changedMeanwhile}
fi
`;

/** What was to be replaced is not what was looked at any more; nothing was replaced. */
export class GuestChangedError extends Error {
  readonly paths: readonly string[];

  constructor(paths: readonly string[]) {
    super(`Changed in the guest meanwhile: ${paths.join(', ')}`);
    this.paths = paths;
  }
}

/** Throws when a script was ended by `exitIfChanged`. */
export function throwIfChanged({ exit, stdout }: GuestOutput): void {
  if (exit.code !== changedMeanwhile) return;
  throw new GuestChangedError(stdout.toString('utf8').split('\n').filter(Boolean));
}
