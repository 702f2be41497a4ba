import { createHash } from 'node:crypto';
import type { Manifest } from './manifest.ts';
import { detachmentFile } from '../host-tree/repository-state.ts';
import { baseReference } from './ship-submodules.ts';
import { updateNames } from './update-names.ts';
import type { ChangedText, GoneText } from './update-script.ts';

export interface TextDifference {
  readonly references: readonly (readonly [name: string, oid: string])[];
  readonly head?: string;
  readonly changedTexts: readonly ChangedText[];
  readonly goneTexts: readonly GoneText[];
}

/** Those that are not just files to be replaced. */
const specialTexts = new Set(['packed-refs', 'HEAD', 'shallow', detachmentFile]);

/** What is different between the small files of a repository that a guest was sent and those that it is to have. */
export function compareTexts(
  known: Manifest['texts'],
  texts: Readonly<Record<string, string>>,
): TextDifference {
  // Of a guest's own files nobody knows which are ours.
  const before = known ?? texts;
  const plain = (path: string): boolean => !specialTexts.has(path);
  const was = parseReferences(known?.['packed-refs']);
  const now = parseReferences(texts['packed-refs']);
  const changed = [...now].filter(([name, oid]) => was.get(name) !== oid);
  // A branch that the host has left stays, and what the guest may have made of it.
  const gone = [...was.keys()].filter((name) => !now.has(name) && !name.startsWith('refs/heads/'));
  return {
    references: [...changed, ...gone.map((name) => [name, ''] as const)],
    head: known?.['HEAD'] === texts['HEAD'] ? undefined : texts['HEAD'],
    changedTexts: Object.keys(texts)
      .filter((path) => plain(path) && texts[path] !== before[path])
      .map((path, count) => ({ path, before: sha256(before[path]), next: `${updateNames.text}-${count}` })),
    goneTexts: Object.keys(before)
      .filter((path) => plain(path) && !(path in texts))
      .map((path) => ({ path, before: sha256(before[path])! })),
  };
}

/** Of `packed-refs`, without the one that the script sets by itself. */
export function parseReferences(text = ''): Map<string, string> {
  const references = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, oid, name] = /^([0-9a-f]{40,64}) (.+)$/.exec(line) ?? [];
    if (oid && name && name !== baseReference) references.set(name, oid);
  }
  return references;
}

function sha256(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  return createHash('sha256').update(Buffer.from(text, 'latin1')).digest('hex');
}
