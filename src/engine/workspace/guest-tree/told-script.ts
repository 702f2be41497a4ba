import type { RawPath } from '../host-tree/raw-path.ts';
import { bareIndex } from './bare-index.ts';
import { knownPathsName, ownIndexName } from './known-index.ts';
import { tarStream, type TarEntry } from '../sending/tar-stream.ts';
import type { ToldChanges } from './told-changes.ts';

/** In the guest's repository, from standard input. */
const names = {
  index: 'banger-export-index-told',
  /** All paths at which something may have changed, and those of them that are to be read */
  paths: 'banger-export-index-told.paths',
  look: 'banger-export-index-told.look',
};

/** What `toldScript` reads: a line, then files as a tar stream, since each program that is started takes its time. */
export async function toldInput({
  present,
  added,
  gone,
  hasAttributes,
  files,
}: ToldChanges): Promise<Buffer> {
  const index = bareIndex(present.map((path) => [path, files.get(path)!]));
  const [there, others, rest] = [present, added, gone].map(asLines) as [Buffer, Buffer, Buffer];
  const contents = {
    [names.index]: index,
    [names.paths]: Buffer.concat([there, others, rest]),
    [names.look]: there,
  };
  const entries = Object.entries(contents).map(([path, bytes]): TarEntry => {
    return {
      path,
      mode: 0o600,
      mtimeSeconds: Math.floor(Date.now() / 1000),
      content: { kind: 'bytes', bytes },
    };
  });
  const attributes = hasAttributes ? 'attributes' : 'none';
  const first = Buffer.from(`${there.length} ${others.length} ${rest.length} ${attributes}\n`);
  const pieces: Buffer[] = [first];
  for await (const piece of tarStream(entries)) pieces.push(piece);
  return Buffer.concat(pieces);
}

function asLines(paths: readonly RawPath[]): Buffer {
  return Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');
}

/**
 * For `changesScript`: where standard input has the paths at which the workspace may differ from the base, only those are
 * looked at. The index has these paths alone, and so has the comparison; whatever git would make of them, it makes of
 * them here. Left to the look at all of it, before anything is printed, whenever
 *
 * - files that are not there are so on purpose,
 * - a program would have to convert a file: where it is missing, git must not read files that nobody has touched,
 * - git does not do what it is asked.
 *
 * What git ignores counts when somebody has added it to git all the same: only the workspace's own index tells. When that
 * is known to have no paths but those of the base, it need not be asked.
 */
export const toldScript = `
told=
# Names what the workspace's own index has and the base has not, as far as it is there. A directory is none to git.
find_forced() {
  linked=$directory/${ownIndexName} known=
  [ ! -f "$covers" ] || read -r known rest <"$covers"
  if [ "$known" = "$base" ] && [ "$own" -ef "$linked" ] && [ ! "$own" -nt "$covers" ]; then return; fi
  "$@" diff-index --cached --no-renames --ita-visible-in-index --name-only -z --diff-filter=AU "$base" >"$index.names" || return
  if [ -s "$index.names" ]; then
    [ "$(wc -c <"$index.names")" -lt 65536 ] || return
    xargs -0 sh -c 'for path; do [ ! -e "$path" ] && [ ! -L "$path" ] || { [ -d "$path" ] && [ ! -L "$path" ]; } ||
      printf "%s\\0" "$path"; done; :' sh <"$index.names" >"$index.forced"
  elif [ "$known" = "$base" ] && [ -e "$own" ]; then
    # For the next time; ${knownPathsName} says of the other index what it said.
    { [ "$own" -ef "$linked" ] || ln -f "$own" "$linked"; } && echo "$base" >"$index.covers" && mv -f "$index.covers" "$covers" || :
  fi
}
# Paths come in, and words of git go before them; all at once, since there are not that many.
with_paths() {
  GIT_INDEX_FILE=$seen xargs -0 -r -s 262144 "$@"
}
look_at_told() {
  read -r present added gone attributes || return
  index=$directory/${names.index}
  seen=$index
  tar -x -o -f - -C "$directory" || return
  [ ! -e "$directory/info/sparse-checkout" ] || return
  find_forced "$@" || return
  if [ "$gone" != 0 ]; then
    seen=$own
    tail -c "$gone" "$index.paths" | with_paths "$@" ls-files -t -- >"$index.names" || return
    ! grep -q '^S ' "$index.names" || return
    seen=$index
  fi
  if [ "$attributes" = attributes ] || [ -e "$directory/info/attributes" ] || [ -e /etc/gitattributes ]; then
    head -c "$((present + added))" "$index.paths" | "$@" check-attr -z --stdin filter >"$index.names" || return
    ! tr '\\0\\n' '\\n ' <"$index.names" |
      awk 'NR % 3 == 0 && $0 != "unspecified" && $0 != "unset" { found = 1 } END { exit !found }' || return
  fi
  if [ "$added" != 0 ]; then
    head -c "$((present + added))" "$index.paths" | tail -c "$added" |
      with_paths "$@" ls-files -z --others --exclude-standard -- >"$index.names" &&
      cat "$index.names" >>"$index.look" || return
  fi
  if [ -s "$index.forced" ]; then
    cat "$index.forced" >>"$index.look" && cat "$index.forced" >>"$index.paths" || return
  fi
  if [ -s "$index.look" ]; then mine "$@" update-index --add --remove -z --stdin <"$index.look" || return; fi
  told=yes
}
if ! look_at_told "$@" 2>/dev/null; then
  rm -f "$index" "$index".*
  index=$directory/banger-export-index.$$
fi
`;
