import type { WorkspaceChange } from '../rpc/workspace-methods.ts';
import { isTreePath, pathText, splitRaw, type RawPath } from './raw-path.ts';

export interface ParsedChanges {
  readonly files: readonly WorkspaceChange[];
  /** Repositories inside the workspace; git sees them as one thing each, so that they are not in a patch */
  readonly nested: readonly RawPath[];
}

const statuses = { A: 'added', D: 'deleted', M: 'modified', T: 'type-changed' } as const;
const nestedMode = '160000';

/**
 * Parses `git diff-tree --raw --numstat -z` of a guest. Undefined when it is anything else: a guest may answer
 * what it likes, and a path that leads out of a working tree must not come further than here.
 */
export function parseChanges(output: Buffer): ParsedChanges | undefined {
  if (output.at(-1) !== 0) return undefined;
  const fields = splitRaw(output);
  const changes = new Map<RawPath, WorkspaceChange>();
  const nested: RawPath[] = [];
  let at = 0;
  for (; fields[at]?.startsWith(':'); at += 2) {
    const match = /^:(\d{6}) (\d{6}) [0-9a-f]{40,64} [0-9a-f]{40,64} ([ADMT])$/.exec(fields[at]!);
    const path = fields[at + 1];
    if (!match || path === undefined || !isTreePath(path) || changes.has(path)) return undefined;
    if (match[1] === nestedMode || match[2] === nestedMode) nested.push(path);
    changes.set(path, { path: pathText(path), status: statuses[match[3] as keyof typeof statuses] });
  }
  for (; at < fields.length; at++) {
    const match = /^(\d{1,15}|-)\t(\d{1,15}|-)\t([^]+)$/.exec(fields[at]!);
    const change = match && changes.get(match[3]!);
    if (!match || !change) return undefined;
    if (match[1] === '-' || match[2] === '-') continue;
    changes.set(match[3]!, { ...change, added: Number(match[1]), removed: Number(match[2]) });
  }
  for (const path of nested) changes.delete(path);
  return { files: [...changes.values()], nested };
}
