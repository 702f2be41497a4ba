import { posix } from 'node:path';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import { pathText, type RawPath } from '../host-tree/raw-path.ts';
import type { MadeBlob } from './made-blobs.ts';
import type { Shipment } from './shipment.ts';
import { madeLater, type TarEntry } from './tar-stream.ts';

/** In the guest: keeps the tree that was sent from being collected as garbage. */
export const baseReference = 'refs/banger/base';

/** Where a repository goes in the guest, below the workspace; each prefix is empty or ends in a slash. */
export interface RepositoryPlace {
  readonly tree: RawPath;
  readonly git: RawPath;
}

export const topPlace: RepositoryPlace = { tree: '', git: '.git/' };

/** Moves an entry of a repository of its own to its place. */
export function placed(entry: TarEntry, place: RepositoryPlace): TarEntry {
  if (place === topPlace) return entry;
  const move = (path: RawPath): RawPath =>
    path.startsWith('.git/') ? `${place.git}${path.slice('.git/'.length)}` : `${place.tree}${path}`;
  const { content } = entry;
  return {
    ...entry,
    path: move(entry.path),
    content: content.kind === 'link' ? { ...content, target: move(content.target) } : content,
  };
}

/** The files of a repository, seen from its git directory; undefined when that is among them. */
export function worktreeOf({ tree, git }: RepositoryPlace): string | undefined {
  return git === `${tree}.git/` ? undefined : pathText(posix.relative(git, tree));
}

/**
 * Ships the submodules of a tree, each to the place that git gives it: its repository below the outer one's
 * `modules`, with a `.git` file in the tree that leads there. Those that are not initialised are empty directories.
 */
export async function shipSubmodules(
  { submodules }: WorkingTree,
  outer: RepositoryPlace,
  ship: (tree: WorkingTree, place: RepositoryPlace) => Promise<Shipment>,
): Promise<Pick<Shipment, 'entries' | 'fileCount' | 'made'>> {
  const mtimeSeconds = Math.floor(Date.now() / 1000);
  const parts: Iterable<TarEntry>[] = [];
  const made: MadeBlob[] = [];
  let fileCount = 0;
  for (const { path, name, tree } of submodules) {
    const inner = `${outer.tree}${path}/`;
    parts.push([{ path: inner, mode: 0o755, mtimeSeconds, content: { kind: 'directory' } }]);
    if (tree === undefined) continue;
    const git = name === undefined ? `${inner}.git/` : `${outer.git}modules/${name}/`;
    const shipment = await ship(tree, { tree: inner, git });
    parts.push(shipment.entries);
    made.push(...shipment.made);
    fileCount += shipment.fileCount;
    if (name === undefined) continue;
    const bytes = Buffer.from(`gitdir: ${posix.relative(inner, git)}\n`, 'latin1');
    parts.push([{ path: `${inner}.git`, mode: 0o644, mtimeSeconds, content: { kind: 'bytes', bytes } }]);
  }
  const entries = madeLater(function* () {
    for (const part of parts) yield* part;
  });
  return { entries, fileCount, made };
}
