import type { BlockFile } from '../ext4/block-file.ts';
import { readContents } from '../ext4/file-contents.ts';
import type { FileTree } from '../ext4/file-tree.ts';
import type { NodeId } from '../ext4/node-table.ts';
import { LayerRefusal } from './layer-refusal.ts';
import { findNode } from './tree-walk.ts';

/** What the engine wants to know of an image before it boots it. */
export interface RootfsFacts {
  /** os-release(5): `ID`, `PRETTY_NAME` and so on; empty when there is none */
  readonly osRelease: Readonly<Record<string, string>>;
  /** There is an executable /bin/sh */
  readonly hasShell: boolean;
}

const maxOsReleaseBytes = 64 * 1024;
/** Characters. Values are shown in lists, and come from whoever made the image */
const maxValueLength = 256;

export async function readRootfsFacts(tree: FileTree, file: BlockFile): Promise<RootfsFacts> {
  const { nodes } = tree;
  const isFile = (node: NodeId): boolean => node !== 0 && nodes.kind(node) === 'file';
  const shell = find(tree, '/bin/sh');
  const release = [find(tree, '/etc/os-release'), find(tree, '/usr/lib/os-release')].find(isFile);
  const text =
    release === undefined
      ? ''
      : (await readContents(file, nodes.contents(release), maxOsReleaseBytes)).toString('utf8');
  return {
    osRelease: parseOsRelease(text),
    hasShell: isFile(shell) && (nodes.attributes(shell).mode & 0o111) !== 0,
  };
}

function find(tree: FileTree, path: string): NodeId {
  try {
    return findNode(tree, path);
  } catch (error) {
    // A loop of symlinks leads nowhere. The image may have one.
    if (error instanceof LayerRefusal) return 0;
    throw error;
  }
}

/** Parses `KEY=value` lines with shell quoting, without expanding anything. Other lines are ignored. */
export function parseOsRelease(text: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const [, key, value] = /^([A-Z][A-Z0-9_]*)=(.*)$/.exec(line.trim()) ?? [];
    if (key === undefined || value === undefined) continue;
    const [, quote, quoted] = /^(["'])(.*)\1$/.exec(value) ?? [];
    const read = quote === "'" ? (quoted ?? '') : (quoted ?? value).replace(/\\(.)/g, '$1');
    fields[key] = read.slice(0, maxValueLength);
  }
  return fields;
}
