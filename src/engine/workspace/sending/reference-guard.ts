import { shellQuote } from '../../../host/shell-quote.ts';
import { pathText } from '../host-tree/raw-path.ts';
import type { ConflictPolicy } from './build-update.ts';
import { parseReferences, type TextDifference } from './compare-texts.ts';
import type { Manifest } from './manifest.ts';

/** What has to be true of a guest's references before an update moves them. */
export interface ReferenceGuard {
  /** What HEAD may say; absent: anything */
  readonly heads?: readonly string[];
  /** What it is to say, whatever it says */
  readonly headToSet?: string;
  /** Branches that change. What they are is `knownCommits`, nothing, or what they are to be; absent: anything */
  readonly branches: readonly { readonly name: string; readonly oid: string }[];
  /** Commits that the host has: a branch that is at one of them can be moved; absent: any can be */
  readonly knownCommits?: readonly string[];
  /** References that are to be, with which no other may share its name, as `fix` and `fix/login` would */
  readonly wanted: readonly string[];
  /** Those that go, and are in nobody's way */
  readonly gone: readonly string[];
}

interface GuardInput {
  readonly manifest: Manifest;
  /** Of the tree that is sent */
  readonly texts: Readonly<Record<string, string>>;
  readonly head?: string;
  readonly previousHead?: string;
  readonly policy: ConflictPolicy;
  /** Commits of the host at which branches of the guest were found */
  readonly knownCommits: readonly string[];
}

/** What has to be asked of a guest before its references become others. */
export function planGuard(
  { references, head: newHead }: TextDifference,
  { manifest, texts, head, previousHead, policy, knownCommits }: GuardInput,
): ReferenceGuard {
  const all = references.map(([name, oid]) => ({ name: pathText(name), oid }));
  const kept = all.filter(({ oid }) => oid !== '');
  const names = {
    branches: kept.filter(({ name }) => name.startsWith('refs/heads/')),
    wanted: kept.map(({ name }) => name),
    gone: all.filter(({ oid }) => oid === '').map(({ name }) => name),
  };
  // Where HEAD stays at its commit, on its branch, it does not matter which branch of that commit it is.
  const movesHead = newHead !== undefined || head !== previousHead;
  const sentHead = manifest.texts?.['HEAD'];
  if (policy === 'overwrite') return { ...names, headToSet: movesHead ? texts['HEAD'] : undefined };
  const sent = parseReferences(manifest.texts?.['packed-refs']).values();
  const known = [previousHead ?? '', ...sent, ...(manifest.commits ?? []), ...knownCommits];
  return {
    ...names,
    knownCommits: [...new Set(known)].filter((oid) => oid !== ''),
    heads:
      movesHead && sentHead !== undefined
        ? [sentHead, texts['HEAD']!].map((text) => pathText(text.trim()))
        : undefined,
  };
}

/** A guest's references are not what an update expects; nothing was changed. */
export class GuestReferencesError extends Error {
  /** What HEAD says, when that is not as expected: a branch without `refs/heads`, or a commit */
  readonly head?: string;
  /** Branches that are at commits of their own, by name without `refs/heads` */
  readonly moved: ReadonlyMap<string, string>;
  /** Names that are to be, and those in their way */
  readonly inTheWay: readonly (readonly [wanted: string, other: string])[];

  constructor(output: string) {
    super(`References of the guest are in the way: ${output}`);
    const lines = output.split('\n').map((line) => line.split(' '));
    const head = lines.find(([first]) => first === 'head');
    this.head =
      head &&
      shortName(
        head
          .slice(1)
          .join(' ')
          .replace(/^ref: /, ''),
      );
    const found = (word: string) => lines.filter(([first]) => first === word);
    this.moved = new Map(found('moved').map(([, name, value]) => [shortName(name!), value ?? '']));
    this.inTheWay = found('way').map(([, wanted, other]) => [shortName(wanted!), shortName(other!)]);
  }
}

export function shortName(name: string): string {
  return name.replace(/^refs\/(?:heads|remotes)\//, '');
}

/** Sets `value` to what a reference is, to nothing when there is none; git would take a hundred times as long to start. */
export const valueFunction = `
value() {
  value=
  if [ -f ".git/$1" ]; then read -r value <".git/$1" || :
  elif [ -f .git/packed-refs ]; then
    while read -r oid name; do [ "$name" != "$1" ] || value=$oid; done <.git/packed-refs
  fi
}
`;

/** Print what HEAD says, branches that are at commits of their own, and references whose names are in the way of others. */
const functions = `${valueFunction}
head_is() {
  head=
  read -r head <.git/HEAD || :
  for each; do [ "$head" != "$each" ] || return 0; done
  echo "head $head"
}
movable() {
  value "$1"
  case "$2 $known" in *"\${value:-$2}"*) ;; *) echo "moved $1 $value" ;; esac
}
stays() {
  case " $gone " in *" $1 "*) return 1 ;; esac
}
nameable() {
  value "$1"
  [ -z "$value" ] || return 0
  parent=\${1%/*}
  while [ "$parent" != refs ]; do
    value "$parent"
    if [ -n "$value" ] && stays "$parent"; then echo "way $1 $parent"; fi
    parent=\${parent%/*}
  done
  {
    [ ! -d ".git/$1" ] || find ".git/$1" -type f ! -name '*.lock'
    [ ! -f .git/packed-refs ] || while read -r oid name; do
      case $name in "$1"/*) echo ".git/$name" ;; esac
    done <.git/packed-refs
  } | while read -r below; do
    if stays "\${below#.git/}"; then
      echo "way $1 \${below#.git/}"
      break
    fi
  done
}
`;

/** A part of a script, run in the workspace, that ends it with a code when something is not as expected. */
export function guardScript(
  { heads, branches, knownCommits, wanted, gone }: ReferenceGuard,
  exitCode: number,
): string {
  const lines = [
    ...(heads ? [`head_is ${shellQuote(heads)}`] : []),
    ...(knownCommits ? branches.map(({ name, oid }) => `movable ${shellQuote([name, oid])}`) : []),
    ...wanted.map((name) => `nameable ${shellQuote([name])}`),
  ];
  if (lines.length === 0) return '';
  return `${functions}
known=${shellQuote([(knownCommits ?? []).join(' ')])}
gone=${shellQuote([gone.join(' ')])}
trouble=$(
${lines.join('\n')}
)
if [ -n "$trouble" ]; then
  printf '%s\\n' "$trouble"
  exit ${exitCode}
fi
`;
}
