import { shellQuote } from '../../../host/shell-quote.ts';
import { giveBackScript, guestGitEnvironment } from '../guest-tree/changes-script.ts';
import { knownPathsName, ownIndexName } from '../guest-tree/known-index.ts';
import { placeFunctions, type planDirectories } from './place-files.ts';
import { valueFunction } from './reference-guard.ts';
import { directoriesOf, type FilePlan } from './plan-update.ts';
import type { RawPath } from '../host-tree/raw-path.ts';
import { updateNames } from './update-names.ts';

/** A small file of the repository that is gone. What the guest has made of it since is not removed. */
export interface GoneText {
  /** Below `.git` */
  readonly path: string;
  /** SHA-256 of what was sent before */
  readonly before: string;
}

/** One that is another now. What the guest has made of it is not replaced. */
export interface ChangedText extends Omit<GoneText, 'before'> {
  /** Absent when there was none */
  readonly before?: string;
  /** Where its new content is */
  readonly next: string;
}

export interface ScriptInput {
  readonly plan: Pick<FilePlan, 'write' | 'remove' | 'permissions'>;
  /** Permission bits of those in `plan.permissions` */
  readonly permissionsOf: (path: RawPath) => number;
  /** Files that bear a time of the host's, in seconds; others that of their arrival, so that they are built again */
  readonly times: ReadonlyMap<RawPath, number>;
  readonly directories: ReturnType<typeof planDirectories>;
  readonly baseTree: string;
  /** The base before, if paths stay the same in tree and index, as `knownPathsName` says */
  readonly knownPaths?: string;
  /** References that change; an empty name of an object removes one */
  readonly references: readonly (readonly [name: string, oid: string])[];
  /** Branches that are at none of these commits stay: somebody has committed there just now. Absent: all are moved. */
  readonly knownCommits?: readonly string[];
  /** Content of HEAD, when it changes */
  readonly head?: string;
  /** Commits that are to count as having no parents, besides those that do so already */
  readonly shallowEnds: readonly string[];
  /** Commits whose parents are there, even if they were not before */
  readonly deepened: readonly string[];
  /** Objects that were made of files that came */
  readonly made: readonly RawPath[];
  readonly index: 'same' | 'sent' | 'none';
  readonly changedTexts: readonly ChangedText[];
  readonly goneTexts: readonly GoneText[];
  readonly token: string;
}

/**
 * The program that turns the workspace it is run in from one state into the next, for the toolbox's shell: its first
 * argument is the workspace, the others are git. It may be ended at any point and run again.
 */
export function updateScript(input: ScriptInput): Buffer {
  const { plan, directories, head, token } = input;
  const removed = [...plan.remove];
  const { needed, emptied } = directories;
  const lines = [
    functions,
    ...calls('objects', [...directoriesOf(input.made)]),
    'place',
    // In a guest without our program for it.
    'if [ $was_placed != 0 ]; then',
    ...calls('gone', removed),
    ...calls('empty', emptied),
    ...calls('directory', needed),
    ...calls('free', [...plan.write]),
    `tar -x -m -f ${updateNames.archive} || exit`,
    ...[...Map.groupBy(input.times.keys(), (path) => input.times.get(path)!)].flatMap(([time, paths]) =>
      calls(`touch -c -d @${time} --`, paths),
    ),
    'fi',
    ...calls('object', input.made),
    ...byPermissions(input).flatMap(([mode, paths]) => calls(`permit ${mode}`, paths)),
    ...shallowLines(input),
    ...referenceLines(input),
    ...(head === undefined ? [] : [headLine(head)]),
    `base ${input.baseTree}`,
    ...input.goneTexts.map(({ path, before }) => `forget ${shellQuote([`.git/${path}`, before])}`),
    ...input.changedTexts.map(({ path, before, next }) => {
      return `replace ${shellQuote([`.git/${path}`, before ?? 'absent', next])}`;
    }),
    ...(input.index === 'sent'
      ? [`[ ! -e ${updateNames.index} ] || mv -f ${updateNames.index} .git/index || exit`]
      : []),
    ...(input.index === 'none' ? ['rm -f .git/index || exit'] : []),
    ...pathsLines(input),
    // What was written is root's, and stays so unless somebody has given the tree to another user.
    'if [ ! -O . ]; then',
    'owner=$(stat -c %u:%g .) || exit',
    ...calls('own', [...plan.write]),
    ...calls('own_made', needed),
    'fi',
    `sync -f . 2>/dev/null || sync`,
    `echo ${token} >${updateNames.sent}.new && mv -f ${updateNames.sent}.new ${updateNames.sent} || exit`,
    `kept=; [ -s ${updateNames.kept} ] || kept=${updateNames.kept}`,
    `rm -rf $kept ${updateNames.archive} ${updateNames.coming} ${updateNames.going} ${updateNames.script} ${updateNames.list} ${updateNames.blobs} ${updateNames.looked}`,
    `directory=.git${giveBackScript}`,
    '',
  ];
  return Buffer.from(lines.join('\n'), 'latin1');
}

const knownPathsFile = `.git/${knownPathsName}`;

/**
 * What is already done is passed over: it may have been done by a run that was ended. Programs are started for many
 * files at once, since under emulation that is what takes time.
 */
const functions = `
trap '' HUP TERM INT PIPE
umask 022
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
export ${Object.entries(guestGitEnvironment)
  .map(([name, value]) => `${name}=${value}`)
  .join(' ')}
cd "$1" || exit
shift
${placeFunctions}
gone() {
  for path; do
    shift
    if [ -L "$path" ] || { [ -e "$path" ] && [ ! -d "$path" ]; }; then set -- "$@" "$path"; fi
  done
  [ $# = 0 ] || rm -f -- "$@" || exit
}
objects() {
  mkdir -p -- "$@" || exit
}
# One that was not put in its place with the files.
object() {
  for path; do
    [ ! -f "${updateNames.coming}/$path" ] || mv -f "${updateNames.coming}/$path" "$path" || exit
  done
}
empty() {
  for path; do
    shift
    if [ -d "$path" ] && [ ! -L "$path" ]; then set -- "$@" "$path"; fi
  done
  [ $# = 0 ] || rmdir -- "$@" 2>/dev/null || :
}
directory() {
  for path; do
    if [ ! -d "$path" ] || [ -L "$path" ]; then rm -f -- "$path" && mkdir -- "$path" || exit; fi
  done
}
free() {
  for path; do
    if [ -d "$path" ] && [ ! -L "$path" ]; then rm -rf -- "$path" || exit; fi
  done
}
permit() {
  mode=$1
  shift
  for path; do
    shift
    if [ -f "$path" ] && [ ! -L "$path" ]; then set -- "$@" "$path"; fi
  done
  [ $# = 0 ] || chmod "$mode" -- "$@" || exit
}
own() {
  for path; do
    shift
    if [ -e "$path" ] || [ -L "$path" ]; then set -- "$@" "$path"; fi
  done
  [ $# = 0 ] || chown -h "$owner" -- "$@" || exit
}
own_made() {
  for path; do
    shift
    if [ -O "$path" ]; then set -- "$@" "$path"; fi
  done
  own "$@"
}
base() {
  [ -d .git/refs/banger ] || mkdir -p .git/refs/banger || exit
  echo "$1" >.git/refs/banger/base.new && mv -f .git/refs/banger/base.new .git/refs/banger/base || exit
}
paths() {
  [ -f ${knownPathsFile} ] && read -r known rest <${knownPathsFile} || return 0
  case $known in
    "$1" | "$2") echo "$2" >${knownPathsFile}.new && mv -f ${knownPathsFile}.new ${knownPathsFile} || exit ;;
    *) rm -f ${knownPathsFile} .git/${ownIndexName} || exit ;;
  esac
}
is() {
  was=absent
  if [ -e "$1" ]; then was=$(sha256sum <"$1"); fi
  [ "\${was%% *}" = "$2" ]
}
forget() {
  if is "$1" "$2"; then rm -f "$1" || exit; fi
}
replace() {
  if is "$1" "$2"; then mkdir -p "\${1%/*}" && mv -f "$3" "$1" || exit
  else rm -f "$3" || exit
  fi
}
${valueFunction}
# Asks git to move a branch, unless it has been moved, or is not ours to.
reference() {
  value "$1"
  if [ -z "$value" ]; then echo "create $1 $2"
  elif [ "$value" != "$2" ]; then
    case " $known " in *" $value "*) echo "update $1 $2 $value" ;; esac
  fi
}
shallow() {
  { [ ! -f .git/shallow ] || cat .git/shallow; for end; do echo "$end"; done; } | sort -u >.git/shallow.new &&
    mv -f .git/shallow.new .git/shallow || exit
}
deepen() {
  [ -f .git/shallow ] || return 0
  while read -r end; do
    case " $* " in *" $end "*) ;; *) echo "$end" ;; esac
  done <.git/shallow >.git/shallow.new || exit
  if [ -s .git/shallow.new ]; then mv -f .git/shallow.new .git/shallow || exit
  else rm -f .git/shallow .git/shallow.new || exit
  fi
}
`;

/** More than a command line holds would be too many. */
const batchSize = 200;

function calls(name: string, paths: readonly RawPath[]): string[] {
  const lines: string[] = [];
  for (let at = 0; at < paths.length; at += batchSize) {
    lines.push(`${name} ${shellQuote(paths.slice(at, at + batchSize).map(plainPath))}`);
  }
  return lines;
}

/** A name that begins with a dash would be an option. */
function plainPath(path: RawPath): string {
  return path.startsWith('-') ? `./${path}` : path;
}

function byPermissions({ plan, permissionsOf }: ScriptInput): [mode: string, paths: RawPath[]][] {
  const groups = Map.groupBy(plan.permissions, (path) => permissionsOf(path).toString(8));
  return [...groups];
}

function shallowLines({ shallowEnds, deepened }: ScriptInput): string[] {
  return [...calls('deepen', deepened), ...(shallowEnds.length > 0 ? calls('shallow', shallowEnds) : [])];
}

function pathsLines({ knownPaths: previousBase, baseTree, index }: ScriptInput): string[] {
  if (previousBase === undefined) return [`rm -f ${knownPathsFile} .git/${ownIndexName}`];
  return [
    ...(index === 'sent' ? [`ln -f .git/index .git/${ownIndexName} || exit`] : []),
    `paths ${previousBase} ${baseTree}`,
  ];
}

const reason = shellQuote(['banger: prepare']);

function referenceLines({ references, knownCommits }: ScriptInput): string[] {
  if (references.length === 0) return [];
  const isGone = ([, oid]: ScriptInput['references'][number]): boolean => oid === '';
  const gone = references.filter(isGone).map(([name]) => `delete ${name}`);
  const kept = references.filter((each) => !isGone(each));
  const lines = kept.map(([name, oid]) => {
    if (knownCommits && name.startsWith('refs/heads/')) return `reference ${shellQuote([name, oid])}`;
    return `echo ${shellQuote([`update ${name} ${oid}`])}`;
  });
  const move = `"$@" update-ref -m ${reason} --stdin`;
  return [
    // By themselves: in one go git lets none take a name that begins as that of one which goes.
    ...(gone.length > 0 ? [`${move} <<'banger' || exit`, ...gone, 'banger'] : []),
    ...(lines.length > 0
      ? [`known=${shellQuote([(knownCommits ?? []).join(' ')])}`, '{', ...lines, `} | ${move} || exit`]
      : []),
  ];
}

function headLine(head: string): string {
  const [, reference] = /^ref: (.+)\n$/.exec(head) ?? [];
  if (reference !== undefined)
    return `"$@" symbolic-ref -m ${reason} HEAD ${shellQuote([reference])} || exit`;
  return `"$@" update-ref --no-deref -m ${reason} HEAD ${shellQuote([head.trim()])} || exit`;
}
