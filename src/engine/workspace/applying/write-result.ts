import type { Operation } from '../../operations.ts';
import type { WorkingTree } from '../host-tree/inspect-tree.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';
import type { MergedPath } from './merge-changes.ts';
import { replaceFiles } from './replace-files.ts';
import { stageFiles, withStaging } from './stage-files.ts';

/** Makes the scratch index that of the tree as it is to be, and returns its git tree. */
export async function writeResult(
  { repository }: WorkingTree,
  written: readonly MergedPath[],
  env: GitVariables,
): Promise<string> {
  const noOid = '0'.repeat(repository.objectFormat === 'sha256' ? 64 : 40);
  // Those that go come first: a file may become a directory.
  const lines = [...written.filter(({ result }) => !result), ...written.filter(({ result }) => result)].map(
    ({ path, result }) => (result ? `${result.mode} ${result.oid} 0\t${path}\0` : `0 ${noOid} 0\t${path}\0`),
  );
  const input = Buffer.from(lines.join(''), 'latin1');
  await repository.git(['update-index', '-z', '--index-info'], { env, input });
  return (await repository.git(['write-tree', '--missing-ok'], { env })).stdout.toString('latin1').trim();
}

export interface Write {
  readonly written: readonly MergedPath[];
  /** With an index of the tree as it is to be */
  readonly env: GitVariables;
  readonly umask: number;
}

export async function writeFiles(
  { repository, files }: WorkingTree,
  { written, env, umask }: Write,
  { signal }: Operation,
): Promise<void> {
  if (written.length === 0) return;
  const stamps = new Map(files.map(({ path, stamp }) => [path, stamp]));
  const paths = written.flatMap(({ path, result }) => (result ? [path] : []));
  const { topLevel } = repository;
  await withStaging(repository, async ({ files: directory, ...places }) => {
    const staged = await stageFiles(repository, { paths, env, directory });
    const replacements = written.map(({ path }) => {
      return { path, staged: staged.get(path), stamp: stamps.get(path) };
    });
    await replaceFiles(replacements, { topLevel, umask, signal, ...places });
  });
}
