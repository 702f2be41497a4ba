import type { RawPath } from '../host-tree/raw-path.ts';
import { directoriesOf, type FilePlan } from './plan-update.ts';
import { changedMeanwhile, updateNames } from './update-names.ts';

/** In a guest. Those that were started by an older build have none, or one that knows of no locks. */
export const placeProgram = '/run/banger/bin/place';

const list = `${updateNames.coming}/${updateNames.list}`;

/**
 * For a script that is in the workspace: waits for others that put files in place there, as one whose engine has lost
 * its connection; while it runs, it is alone. Sets `place_program`, to nothing where there is none.
 */
export const lockScript = `
place_program=
if [ -d .git ]; then
  exec 9<.git
  if [ -x ${placeProgram} ] && ${placeProgram} lock <&9 2>/dev/null; then place_program=${placeProgram}; fi
fi
`;

/** For `updateScript`: puts the files that came in the place of those that are there. */
export const placeFunctions = `
# The first time, all is as it was when somebody in the guest has changed what gives way. Later, that stays there.
place() {
  was_placed=3
  : >${updateNames.kept} || exit
  if [ -z "$place_program" ] || [ ! -f ${list} ]; then return; fi
  [ -n "$is_first" ] || set -- again
  "$place_program" . ${list} ${updateNames.coming} ${updateNames.going} "$@" >${updateNames.kept}
  was_placed=$?
  case $was_placed in
    0 | 4) was_placed=0 ;;
    3 | ${changedMeanwhile})
      rm -rf ${updateNames.archive} ${updateNames.coming} ${updateNames.going}
      # Without the mark nobody knows what was changed: looking again leaves one.
      if [ $was_placed = 3 ]; then echo ${updateNames.looked}; else tr '\\0' '\\n' <${updateNames.kept}; fi
      rm -f ${updateNames.kept}
      exit ${changedMeanwhile}
      ;;
    *) exit 1 ;;
  esac
}
`;

/** Directories that an update needs, those above others first, and those that it leaves empty, below others first. */
export function planDirectories(
  { write, remove }: Pick<FilePlan, 'write' | 'remove'>,
  /** Of the new tree */
  files: { keys(): Iterable<RawPath> },
): { readonly needed: readonly RawPath[]; readonly emptied: readonly RawPath[] } {
  const stay = remove.size === 0 ? new Set<RawPath>() : directoriesOf(files.keys());
  const emptied = [...directoriesOf(remove)].filter((path) => !stay.has(path));
  return { needed: [...directoriesOf(write)].sort(), emptied: emptied.sort().reverse() };
}

export interface PlaceInput extends Pick<FilePlan, 'remove'>, ReturnType<typeof planDirectories> {
  readonly written: readonly RawPath[];
  /** Of those that bear one of the host's; see `ScriptInput` */
  readonly times: ReadonlyMap<RawPath, number>;
  readonly own: readonly RawPath[];
}

/** As `guest/place.c` reads it. What git looks for by the names of indexes comes before those. */
export function placeList({ remove, needed, emptied, written, times, own }: PlaceInput): Buffer {
  const isIndex = (path: RawPath): boolean => path.endsWith('.idx');
  const ofRepository = [...own.filter((path) => !isIndex(path)), ...own.filter(isIndex)];
  const arrival = (path: RawPath): string => {
    const time = times.get(path);
    return time === undefined || time < 0 ? `w${path}` : `t${Math.floor(time)}/${path}`;
  };
  const lines = [
    ...[...remove].map((path) => `r${path}`),
    ...needed.map((path) => `d${path}`),
    ...written.map(arrival),
    ...emptied.map((path) => `e${path}`),
    ...ofRepository.map((path) => `m${path}`),
  ];
  return Buffer.from(lines.map((line) => `${line}\0`).join(''), 'latin1');
}
