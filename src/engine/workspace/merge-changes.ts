import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChangedPath, GitEntry } from './changes-format.ts';
import { submoduleMode } from './index-entries.ts';
import { mergeDrivers, type MergeDriver } from './merge-drivers.ts';
import { displayPath, splitRaw, type RawPath } from './raw-path.ts';
import type { Repository } from './repository.ts';
import type { GitVariables } from './scratch-objects.ts';

export type MergeOutcome = 'applied' | 'merged' | 'present' | 'conflict';

/** Kinds of conflicts, as git names them. */
export type ConflictKind =
  'content' | 'add/add' | 'modify/delete' | 'file/directory' | 'distinct types' | 'submodule';

/** What becomes of one changed path on the host. */
export interface MergedPath {
  readonly path: RawPath;
  readonly outcome: MergeOutcome;
  readonly conflict?: ConflictKind;
  /** What is in conflict, in git's words */
  readonly reason?: string;
  /** What is there afterwards, absent when it is to be gone. A conflict has it only when it can be shown in the tree. */
  readonly result?: GitEntry;
  /** False for conflicts that cannot be shown: those stay as they are here */
  readonly isWritable: boolean;
}

export interface MergeInput {
  readonly repository: Repository;
  /** With an index that holds the host's tree as it is now */
  readonly env: GitVariables & { readonly GIT_INDEX_FILE: string };
  readonly scratch: string;
  /** For conflict markers */
  readonly vmName: string;
}

/**
 * Merges a guest's changes with the host's tree, path by path, as git merges: `before` is the common base. Only
 * objects are written; index and working tree stay as they are.
 */
export async function mergeChanges(
  changes: readonly ChangedPath[],
  input: MergeInput,
): Promise<MergedPath[]> {
  const now = await readIndex(input);
  const drivers = await mergeDrivers(clashing(changes, now), input);
  const merged: MergedPath[] = [];
  for (const change of changes) {
    const driver = drivers.get(change.path) ?? 'text';
    merged.push(await mergePath(change, now.get(change.path), { ...input, driver }));
  }
  return withoutCollisions(merged, now, input);
}

/** Paths that both sides changed. */
function clashing(changes: readonly ChangedPath[], now: ReadonlyMap<RawPath, GitEntry>): RawPath[] {
  return changes
    .filter(({ path, before }) => now.has(path) && !isSame(now.get(path), before))
    .map(({ path }) => path);
}

/** Every path of the index with what it holds. */
async function readIndex({ repository, env }: MergeInput): Promise<Map<RawPath, GitEntry>> {
  const listed = splitRaw((await repository.git(['ls-files', '-s', '-z'], { env })).stdout);
  return new Map(
    listed.map((line) => {
      const [facts, path] = [line.slice(0, line.indexOf('\t')), line.slice(line.indexOf('\t') + 1)];
      const [mode, oid] = facts.split(' ');
      return [path, { mode: mode!, oid: oid! }];
    }),
  );
}

async function mergePath(
  { path, before, after }: ChangedPath,
  now: GitEntry | undefined,
  input: MergeInput & { readonly driver: MergeDriver },
): Promise<MergedPath> {
  if (isSame(now, after)) return { path, outcome: 'present', result: now, isWritable: false };
  if (isSame(now, before)) return { path, outcome: 'applied', result: after, isWritable: true };
  const name = displayPath(path);
  const vm = `VM "${input.vmName}"`;
  const conflict = (kind: ConflictKind, reason: string): MergedPath => {
    return { path, outcome: 'conflict', conflict: kind, reason, isWritable: false };
  };
  if (!after) return conflict('modify/delete', `${name} deleted in ${vm} and modified here`);
  if (!now) {
    const reason = `${name} deleted here and modified in ${vm}`;
    return { ...conflict('modify/delete', reason), result: after, isWritable: true };
  }
  if (now.mode === submoduleMode)
    return conflict('submodule', `${name} is a submodule here, and a file in ${vm}`);
  if (!isFile(now) || !isFile(after))
    return conflict('distinct types', `${name} had different types on each side`);

  const clean = (result: GitEntry): MergedPath =>
    isSame(result, now)
      ? { path, outcome: 'present', result, isWritable: false }
      : { path, outcome: 'merged', result, isWritable: true };
  const base = before && isFile(before) ? before : undefined;
  const mode = now.mode === base?.mode ? after.mode : now.mode;
  const settled = settledContent(base, now, after);
  if (settled !== undefined) return clean({ mode, oid: settled });
  const text = await mergeText({ base, now, after }, input);
  const kind = base ? 'content' : 'add/add';
  if (!text) return conflict(kind, `Cannot merge binary files: ${name} (here vs. ${vm})`);
  const result = { mode, oid: text.oid };
  if (text.isClean) return clean(result);
  return { ...conflict(kind, `Merge conflict in ${name}`), result, isWritable: true };
}

function isSame(one: GitEntry | undefined, other: GitEntry | undefined): boolean {
  return one?.mode === other?.mode && one?.oid === other?.oid;
}

function isFile({ mode }: GitEntry): boolean {
  return mode.startsWith('100');
}

/** The content when only one side changed it; the other changed the mode. */
function settledContent(base: GitEntry | undefined, now: GitEntry, after: GitEntry): string | undefined {
  if (now.oid === after.oid || after.oid === base?.oid) return now.oid;
  return now.oid === base?.oid ? after.oid : undefined;
}

/** Exit codes of `git merge-file`: the number of conflicts, or 255 for what it cannot merge. */
const conflictCodes = Array.from({ length: 127 }, (_, index) => index + 1);
const unmergeable = 255;

/** Merges three versions of a text; undefined when one of them is binary. */
async function mergeText(
  { base, now, after }: { base: GitEntry | undefined; now: GitEntry; after: GitEntry },
  { repository: { git }, env, scratch, vmName, driver }: MergeInput & { readonly driver: MergeDriver },
): Promise<{ readonly oid: string; readonly isClean: boolean } | undefined> {
  if (driver === 'binary') return undefined;
  const sides = [
    { name: 'this tree', entry: now },
    { name: 'as it was sent', entry: base },
    { name: `VM ${vmName}`, entry: after },
  ];
  const files = await Promise.all(
    sides.map(async ({ entry }, index) => {
      const file = join(scratch, `merge-${index}`);
      const content = entry ? (await git(['cat-file', 'blob', entry.oid], { env })).stdout : Buffer.alloc(0);
      await writeFile(file, content, { mode: 0o600 });
      return file;
    }),
  );
  const merged = await git(
    [
      'merge-file',
      '-p',
      '-q',
      ...(driver === 'union' ? ['--union'] : []),
      ...sides.flatMap(({ name }) => ['-L', name]),
      ...files,
    ],
    { okExitCodes: [...conflictCodes, unmergeable] },
  );
  if (merged.exitCode === unmergeable) return undefined;
  const written = await git(['hash-object', '-w', '--stdin'], { env, input: merged.stdout });
  return { oid: written.stdout.toString('latin1').trim(), isClean: merged.exitCode === 0 };
}

/** A path cannot be a file and a directory at once: such changes are conflicts, whoever came first. */
function withoutCollisions(
  merged: readonly MergedPath[],
  now: ReadonlyMap<RawPath, GitEntry>,
  { vmName }: MergeInput,
): MergedPath[] {
  const after = new Set(now.keys());
  for (const { path, result, outcome } of merged) {
    if (result) after.add(path);
    else if (outcome === 'applied') after.delete(path);
  }
  const directories = new Set([...after].flatMap(parents));
  return merged.map((each) => {
    if (!each.result || each.outcome === 'present') return each;
    const { path } = each;
    const file = parents(path).find((parent) => after.has(parent));
    if (file === undefined && !directories.has(path)) return each;
    const isSubmodule = file !== undefined && now.get(file)?.mode === submoduleMode;
    const name = displayPath(path);
    const way = file === undefined ? 'directory' : isSubmodule ? 'submodule' : 'file';
    const where = file === undefined ? '' : ` "${displayPath(file)}"`;
    return {
      path,
      outcome: 'conflict',
      conflict: isSubmodule ? 'submodule' : 'file/directory',
      reason: `${way}${where} in the way of ${name} from VM "${vmName}"`,
      isWritable: false,
    };
  });
}

/** Every directory above a path, below the top. */
export function parents(path: RawPath): RawPath[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}
