import type { ExportHead, WorkspaceChange } from '../engine/rpc/workspace-methods.ts';
import { printable } from '../printable.ts';

interface Changes {
  readonly vm: string;
  readonly files: readonly WorkspaceChange[];
}

/** One line about all that changed in a VM. */
export function changesSummary({ vm, files }: Changes): string {
  if (files.length === 0) return `No changes in VM "${vm}"`;
  const total = (key: 'added' | 'removed'): number => files.reduce((sum, file) => sum + (file[key] ?? 0), 0);
  const count = `${files.length} ${files.length === 1 ? 'file' : 'files'}`;
  return `${count} changed in VM "${vm}": ${total('added')} lines added, ${total('removed')} removed`;
}

/** What the mails of a VM's commits have, and what they have not or not by itself. */
export function commitsSummary({ vm, files, commits = [], merged = [] }: ExportHead): string[] {
  const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
  const lines = [
    commits.length === 0
      ? `No new commits in VM "${vm}"`
      : `${count(commits.length, 'commit')} of VM "${vm}"`,
  ];
  for (const { oid, subject } of merged) {
    lines.push(`In the mail of a merge: ${printable(`${oid.slice(0, 12)} ${subject}`)}`);
  }
  if (files.length > 0) {
    lines.push(
      `Left out: changes in ${count(files.length, 'file')} that are not committed in the VM; the patch has them, without --commits`,
    );
  }
  return lines;
}

export function nameLine(file: WorkspaceChange): string {
  return printable(file.path);
}

const letters = { added: 'A', deleted: 'D', modified: 'M', 'type-changed': 'T' } as const;

/** Letter of the change, lines, path. */
export function statLine({ path, status, added, removed }: WorkspaceChange): string {
  const lines = added === undefined ? 'binary' : `+${added} -${removed}`;
  return `${letters[status]}  ${lines.padStart(11)}  ${printable(path)}`;
}
