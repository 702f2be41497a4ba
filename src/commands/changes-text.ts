import type { WorkspaceChange } from '../engine/rpc/workspace-methods.ts';
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

export function nameLine(file: WorkspaceChange): string {
  return printable(file.path);
}

const letters = { added: 'A', deleted: 'D', modified: 'M', 'type-changed': 'T' } as const;

/** Letter of the change, lines, path. */
export function statLine({ path, status, added, removed }: WorkspaceChange): string {
  const lines = added === undefined ? 'binary' : `+${added} -${removed}`;
  return `${letters[status]}  ${lines.padStart(11)}  ${printable(path)}`;
}
