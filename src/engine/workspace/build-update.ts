import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { ChangedPath } from './changes-format.ts';
import { writeGuestIndex } from './guest-index.ts';
import { writeListedPack, writePack } from './guest-pack.ts';
import type { WorkingTree } from './inspect-tree.ts';
import type { Manifest, SentFile } from './manifest.ts';
import { planHistory, type History, type HistoryInput } from './plan-history.ts';
import { keeping, overwriting, parentsOf, planFiles, type FilePlan } from './plan-update.ts';
import type { RawPath } from './raw-path.ts';
import { detachmentFile } from './repository-state.ts';
import { scratchObjects, writeTree, type GitVariables } from './scratch-objects.ts';
import {
  convertsContent,
  describeIndex,
  describeStaged,
  listSentFiles,
  substituteFiles,
} from './sent-files.ts';
import { baseReference } from './ship-submodules.ts';
import {
  fileEntry,
  packEntry,
  repositoryEntries,
  sizeOf,
  textEntry,
  textsOf,
  tipsOf,
  workingEntry,
  type Shipment,
} from './shipment.ts';
import type { TarEntry } from './tar-stream.ts';
import { updateNames, updateScript, type ChangedText, type GoneText } from './update-script.ts';

/** What turns the tree that a guest has into another one. */
export interface Update extends Shipment {
  readonly plan: FilePlan;
  /** HEAD, references or the index change: commits that the guest made would be out of sight */
  readonly movesHead: boolean;
  /** What the guest has staged is replaced */
  readonly setsIndex: boolean;
  /** The guest's git is wanted to carry it out */
  readonly needsGit: boolean;
}

/** What to do where guest and host both changed a file. */
export type ConflictPolicy = 'stop' | 'overwrite' | 'keep';

export interface UpdateInput extends HistoryInput {
  readonly manifest: Manifest;
  /** What the guest changed since */
  readonly changes: readonly ChangedPath[];
  /** Tells what is in a guest at paths where nothing was sent, and which git does not list: it ignores them */
  readonly findIgnored: (paths: readonly RawPath[]) => Promise<readonly ChangedPath[]>;
  readonly policy: ConflictPolicy;
  readonly token: string;
}

/** Files that guest and host both changed, when these were to stop the update. */
export interface Conflicts {
  readonly conflicts: readonly RawPath[];
}

/**
 * Works out what a guest lacks of a working tree: files that differ from what was sent before, and the objects and
 * references that git in the guest needs for them. The guest's other files stay as they are, ignored ones always.
 */
export async function buildUpdate(
  tree: WorkingTree,
  scratch: string,
  input: UpdateInput,
): Promise<Update | Conflicts> {
  const { repository } = tree;
  const env = await scratchObjects(repository, scratch);
  const baseEnv = { ...env, GIT_INDEX_FILE: join(scratch, 'base-index') };
  let baseTree = await writeTree(tree, baseEnv);
  let files = await listSentFiles(tree, baseEnv);
  const before = input.manifest.files;
  const ignored = await input.findIgnored(newPaths(before, files, input.changes));
  const compared = planFiles({
    before,
    after: files,
    guest: [...input.changes, ...ignored],
    converts: await convertsContent(tree),
  });
  if (input.policy === 'stop' && compared.conflicts.length > 0) return { conflicts: compared.conflicts };
  const plan = input.policy === 'overwrite' ? overwriting(compared, files) : keeping(compared);
  if (plan.conflicts.length > 0) {
    const kept = new Map(plan.conflicts.map((path) => [path, input.manifest.files.get(path)] as const));
    ({ baseTree, files } = await substituteFiles(tree, { env: baseEnv, files, kept }));
  }
  return assemble(tree, scratch, { ...input, env, baseTree, files, plan });
}

/** Paths that a guest was sent nothing to, and of which it has said nothing; directories on the way there, too. */
function newPaths(
  before: Manifest['files'],
  after: Manifest['files'],
  changes: readonly ChangedPath[],
): RawPath[] {
  const known = new Set([...before.keys(), ...changes.map(({ path }) => path)]);
  const added = [...after.keys()].filter((path) => !before.has(path));
  if (added.length === 0) return [];
  for (const parent of [...before.keys()].flatMap(parentsOf)) known.add(parent);
  const paths = new Set(added.flatMap((path) => [path, ...parentsOf(path)]));
  // Below what was sent as a file or symlink there is nothing, unless the guest has said so.
  return [...paths].filter(
    (path) => !known.has(path) && !parentsOf(path).some((parent) => before.has(parent)),
  );
}

interface Parts extends UpdateInput {
  readonly env: GitVariables;
  readonly baseTree: string;
  readonly files: ReadonlyMap<RawPath, SentFile>;
  readonly plan: FilePlan;
}

async function assemble(tree: WorkingTree, scratch: string, parts: Parts): Promise<Update> {
  const { repository } = tree;
  const { manifest, plan, files, baseTree } = parts;
  const history = await planHistory(tree, parts);
  const index = await describeIndex(tree);
  const isIndexSame = index !== undefined && index === manifest.index;
  const pack = await packMissing(tree, scratch, { ...parts, history, withIndex: !isIndexSame });
  const indexFile = isIndexSame ? undefined : await writeGuestIndex(tree, scratch);
  const texts = textsOf(await repositoryEntries(tree, { baseTree, shallowEnds: history.ends, pack: [] }));
  const difference = compareTexts(parts.isHeadLost ? undefined : manifest.texts, texts);

  const script = updateScript({
    plan,
    permissionsOf: (path) => files.get(path)!.permissions!,
    directories: new Set([...files.keys()].flatMap(parentsOf)),
    baseTree,
    ...difference,
    shallowEnds: history.newEnds,
    deepened: history.deepened,
    endsShallowness: parts.fullHistory,
    index: isIndexSame ? 'same' : indexFile ? 'sent' : 'none',
    token: parts.token,
  });
  const wanted = tree.files.filter((file) => plan.write.has(file.path));
  const entries: TarEntry[] = [
    textEntry(updateNames.script, script),
    ...wanted.map((file) => workingEntry(repository.topLevel, file)),
    ...(await Promise.all(pack.map((file) => packEntry(file)))),
    ...difference.changedTexts.map(({ path, next }) => textEntry(next, latin1(texts[path]!))),
    ...(indexFile ? [await fileEntry(updateNames.index, indexFile, 0o644)] : []),
  ];
  return {
    entries,
    fileCount: wanted.length,
    totalBytes: sizeOf(entries),
    baseTree,
    plan,
    movesHead: difference.references.length > 0 || difference.head !== undefined || !isIndexSame,
    needsGit: difference.references.length > 0 || difference.head !== undefined,
    setsIndex: !isIndexSame,
    manifest: {
      baseTree,
      files,
      commits: history.commits,
      index,
      staged: describeStaged(tree.entries, files),
      texts,
    },
  };
}

interface TextDifference {
  readonly references: readonly (readonly [name: string, oid: string])[];
  readonly head?: string;
  readonly changedTexts: readonly ChangedText[];
  readonly goneTexts: readonly GoneText[];
}

/** Those that are not just files to be replaced. */
const specialTexts = new Set(['packed-refs', 'HEAD', 'shallow', detachmentFile]);

function compareTexts(known: Manifest['texts'], texts: Readonly<Record<string, string>>): TextDifference {
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
function parseReferences(text = ''): Map<string, string> {
  const references = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, oid, name] = /^([0-9a-f]{40,64}) (.+)$/.exec(line) ?? [];
    if (oid && name && name !== baseReference) references.set(name, oid);
  }
  return references;
}

interface PackInput extends Parts {
  readonly history: History;
  readonly withIndex: boolean;
}

/** Packs the objects that the guest lacks; returns the files made, none when it lacks none. */
async function packMissing(
  tree: WorkingTree,
  scratch: string,
  { env, baseTree, manifest, history, withIndex }: PackInput,
): Promise<string[]> {
  const { git } = tree.repository;
  if (history.missing === undefined) {
    const wanted = [...history.ends.map((end) => `--shallow ${end}`), ...tipsOf(tree), baseTree];
    return writePack(tree, scratch, { env, wanted });
  }
  const [roots, edges] = await Promise.all([rootsOf(git, history.missing), rootsOf(git, history.boundary)]);
  const wanted = [...roots, baseTree, ...edges.map((root) => `^${root}`)];
  const listed = await git(
    ['rev-list', '--objects', '--missing=allow-any', ...(withIndex ? ['--indexed-objects'] : []), '--stdin'],
    {
      env: { ...env, GIT_INDEX_FILE: tree.indexCopy ?? join(scratch, 'no-index') },
      input: Buffer.from(wanted.map((line) => `${line}\n`).join('')),
    },
  );
  const there = new Set([...manifest.files.values()].map(({ oid }) => oid));
  const lines = listed.stdout
    .toString('latin1')
    .split('\n')
    .filter((line) => line !== '' && !there.has(line.split(' ', 1)[0]!));
  if (lines.length === 0 && history.missing.length === 0) return [];
  return writeListedPack(tree, scratch, { env, lines: [...history.missing, ...lines] });
}

/** Trees of commits. */
async function rootsOf(git: WorkingTree['repository']['git'], commits: readonly string[]): Promise<string[]> {
  if (commits.length === 0) return [];
  const input = Buffer.from(commits.map((commit) => `${commit}\n`).join(''));
  const listed = await git(['rev-list', '--no-walk=unsorted', '--format=tree %T', '--stdin'], { input });
  return listed.stdout
    .toString('latin1')
    .split('\n')
    .flatMap((line) => /^tree (.+)$/.exec(line)?.[1] ?? []);
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function sha256(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  return createHash('sha256').update(latin1(text)).digest('hex');
}
