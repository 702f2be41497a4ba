import type { RawPath } from '../host-tree/raw-path.ts';
import type { FilePlan } from './plan-update.ts';
import { changedMeanwhile, updateNames } from './update-names.ts';

/** In a guest, and `place_program` in the script; guests that were started by an older build have none */
export const placeProgram = '/run/banger/bin/place';

const list = `${updateNames.coming}/${updateNames.list}`;

/** For `updateScript`: puts the files that came in the place of those that are there. */
export const placeFunctions = `
place_files() {
  [ -f ${list} ] && [ -x "$place_program" ] || return 3
  "$place_program" . ${list} ${updateNames.coming} ${updateNames.going} "$@"
}
# The first time, all is as it was when somebody in the guest has changed what gives way. Later, that stays there.
place() {
  if [ -n "$is_first" ]; then changed=$(place_files); else changed=$(place_files again); fi
  was_placed=$?
  case $was_placed in
    0 | 3 | 4) ;;
    ${changedMeanwhile})
      rm -rf ${updateNames.archive} ${updateNames.coming} ${updateNames.going}
      printf '%s\\n' "$changed"
      exit ${changedMeanwhile}
      ;;
    *) exit 1 ;;
  esac
}
# What waited for its directories; all of it in a guest without our program for it.
place_rest() {
  [ $was_placed != 0 ] || return 0
  [ $was_placed = 3 ] || ! place_files again || return 0
  tar -x -m -f ${updateNames.archive} || exit
}
`;

/** As `guest/place.c` reads it. What git looks for by the names of indexes comes before those. */
export function placeList(
  { remove }: Pick<FilePlan, 'remove'>,
  { written, own }: { readonly written: readonly RawPath[]; readonly own: readonly RawPath[] },
): Buffer {
  const isIndex = (path: RawPath): boolean => path.endsWith('.idx');
  const ofRepository = [...own.filter((path) => !isIndex(path)), ...own.filter(isIndex)];
  const lines = [
    ...[...remove].map((path) => `r${path}`),
    ...written.map((path) => `w${path}`),
    ...ofRepository.map((path) => `m${path}`),
  ];
  return Buffer.from(lines.map((line) => `${line}\0`).join(''), 'latin1');
}
