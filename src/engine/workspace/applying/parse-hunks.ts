export interface RemovedLine {
  /** In the older version, from 1 */
  readonly number: number;
  readonly text: string;
}

/** Lines that were replaced by others. */
export interface Hunk {
  readonly removed: readonly RemovedLine[];
  readonly added: readonly string[];
}

/** Reads what `git diff-tree -p -U0` says of files with plain names. */
export function parseHunks(patch: string): Map<string, Hunk[] | 'binary'> {
  const files = new Map<string, Hunk[] | 'binary'>();
  const lines = patch.split('\n');
  let hunks: Hunk[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const file = /^diff --git a\/(\S+) /.exec(line)?.[1];
    if (file !== undefined) files.set(file, (hunks = []));
    else if (line.startsWith('Binary files ')) files.set([...files.keys()].at(-1)!, 'binary');
    const [, from, gone = '1', made = '1'] = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(line) ?? [];
    if (from === undefined) continue;
    // Counted, since lines of a file may look like anything.
    const removed: RemovedLine[] = [];
    const added: string[] = [];
    while (removed.length < Number(gone) || added.length < Number(made)) {
      const next = lines[++at];
      if (next === undefined) break;
      const text = next.slice(1);
      if (next.startsWith('-')) removed.push({ number: Number(from) + removed.length, text });
      else if (next.startsWith('+')) added.push(text);
    }
    hunks.push({ removed, added });
  }
  return files;
}
