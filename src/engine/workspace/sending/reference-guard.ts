import { shellQuote } from '../../../host/shell-quote.ts';

/** What has to be true of a guest's references before an update moves them. */
export interface ReferenceGuard {
  /** Branches that change. What they are is `knownCommits`, nothing, or what they are to be; absent: anything */
  readonly branches: readonly { readonly name: string; readonly oid: string }[];
  /** Commits that the host has: a branch that is at one of them can be moved; absent: any can be */
  readonly knownCommits?: readonly string[];
}

/** A guest's references are not what an update expects; nothing was changed. */
export class GuestReferencesError extends Error {
  /** Branches that are at commits of their own, by name without `refs/heads` */
  readonly moved: ReadonlyMap<string, string>;

  constructor(output: string) {
    super(`Branches of the guest are not as they were sent: ${output}`);
    const lines = output.split('\n').map((line) => line.split(' '));
    const found = (word: string) => lines.filter(([first]) => first === word);
    this.moved = new Map(found('moved').map(([, name, value]) => [shortName(name!), value ?? '']));
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

/** Prints the branches that are at commits of their own. */
const functions = `${valueFunction}
movable() {
  value "$1"
  case "$2 $known" in *"\${value:-$2}"*) ;; *) echo "moved $1 $value" ;; esac
}
`;

/** A part of a script, run in the workspace, that ends it with a code when something is not as expected. */
export function guardScript({ branches, knownCommits }: ReferenceGuard, exitCode: number): string {
  if (!knownCommits || branches.length === 0) return '';
  const lines = branches.map(({ name, oid }) => `movable ${shellQuote([name, oid])}`);
  return `${functions}
known=${shellQuote([knownCommits.join(' ')])}
trouble=$(
${lines.join('\n')}
)
if [ -n "$trouble" ]; then
  printf '%s\\n' "$trouble"
  exit ${exitCode}
fi
`;
}
