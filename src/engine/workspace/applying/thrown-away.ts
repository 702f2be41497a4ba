import { join } from 'node:path';
import { errorText } from '../../../errors.ts';
import { guestDataMemoryBytes, isOutOfMemory } from '../../../host/memory-limit.ts';
import type { GitEntry } from '../guest-tree/changes-format.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';
import { parseHunks, type Hunk, type RemovedLine } from './parse-hunks.ts';

/** A file of which a change of the guest was applied here, and which is neither as before that nor as the guest had it. */
export interface Reworked {
  /** Before the guest changed it; absent: it made the file */
  readonly before?: GitEntry;
  readonly guest: GitEntry;
  readonly now: GitEntry;
  /** Somebody had a conflict in it to resolve, and may have left out what the guest has */
  readonly isResolved: boolean;
}

interface Repo {
  readonly repository: Repository;
  readonly env: GitVariables;
  readonly scratch: string;
}

/**
 * Finds those files, by their place in the list, of which a part of the guest's change is not here any more: where the
 * guest changed lines, they are as before it did; where it only added some, most of them are not here. That is what a checkout
 * and edits elsewhere in the file leave. Where it cannot be told, as in binary files, the change counts as thrown away.
 */
export async function findThrownAway(files: readonly Reworked[], repo: Repo): Promise<ReadonlySet<number>> {
  const all = new Set(files.keys());
  if (all.size === 0) return all;
  try {
    const [before, guest, now] = [
      await treeOf(
        files.map((each) => each.before),
        repo,
      ),
      await treeOf(
        files.map((each) => each.guest),
        repo,
      ),
      await treeOf(
        files.map((each) => each.now),
        repo,
      ),
    ];
    const there = await compare(before, guest, repo);
    const here = await compare(before, now, repo);
    const isThere = (index: number): boolean => {
      const [theirs, ours] = [there.get(nameOf(index)), here.get(nameOf(index))];
      const { guest: wanted, now: found, isResolved } = files[index]!;
      if (wanted.oid === found.oid) return true;
      // Nothing is as before, which is said of no file of these, or only its mode.
      if (!theirs || !ours || theirs === 'binary' || ours === 'binary') return false;
      return isAllThere({ theirs, ours, isResolved });
    };
    return new Set([...all].filter((index) => !isThere(index)));
  } catch (error) {
    if (isOutOfMemory(errorText(error))) return all;
    throw error;
  }
}

/** What the guest made of the lines of a file, and what they are here, both compared with the version before. */
interface Compared {
  readonly theirs: readonly Hunk[];
  readonly ours: readonly Hunk[];
  readonly isResolved: boolean;
}

function isAllThere({ theirs, ours, isResolved }: Compared): boolean {
  const [gone, goneThere] = [removedIn(ours), removedIn(theirs)];
  const [made, madeThere] = [addedIn(ours), addedIn(theirs)];
  const isBack = ({ number, text }: RemovedLine): boolean => {
    // Of several that are the same, git may take another one for that which went.
    if (!gone.numbers.has(number) && gone.count(text) < goneThere.count(text)) return true;
    // Indented anew, or the like.
    const bare = withoutSpace(text);
    return made.has(bare) && !madeThere.has(bare);
  };
  return theirs.every(({ removed, added }) => {
    const telling = removed.filter(({ text }) => isTelling(text));
    if (telling.length > 0) return !telling.some(isBack);
    const news = added.filter(isTelling);
    const here = news.filter((text) => made.has(withoutSpace(text)));
    // One that is the same is found in anything that somebody writes anew.
    return isResolved || here.length * 2 >= news.length;
  });
}

function removedIn(hunks: readonly Hunk[]): {
  readonly numbers: ReadonlySet<number>;
  count(text: string): number;
} {
  const numbers = new Set<number>();
  const counts = new Map<string, number>();
  for (const { number, text } of hunks.flatMap(({ removed }) => removed)) {
    numbers.add(number);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return { numbers, count: (text) => counts.get(text) ?? 0 };
}

function addedIn(hunks: readonly Hunk[]): ReadonlySet<string> {
  return new Set(hunks.flatMap(({ added }) => added).map(withoutSpace));
}

/** Empty lines, and those of brackets alone, are found anywhere. */
function isTelling(line: string): boolean {
  return /[\w\x80-\xff]/.test(line);
}

function withoutSpace(line: string): string {
  return line.replace(/\s+/g, '');
}

/** What a version of a file is called in its tree. */
function nameOf(index: number): string {
  return `f${index}`;
}

async function treeOf(
  entries: readonly (GitEntry | undefined)[],
  { repository: { git }, env, scratch }: Repo,
): Promise<string> {
  const own = { ...env, GIT_INDEX_FILE: join(scratch, 'versions-index') };
  await git(['read-tree', '--empty'], { env: own });
  const lines = entries.map((entry, index) => (entry ? `100644 ${entry.oid} 0\t${nameOf(index)}\0` : ''));
  await git(['update-index', '-z', '--index-info'], { env: own, input: Buffer.from(lines.join('')) });
  return (await git(['write-tree', '--missing-ok'], { env: own })).stdout.toString('latin1').trim();
}

/** Whatever the user has set. */
const diffOptions = [
  ...['-p', '-U0', '--inter-hunk-context=0', '--diff-algorithm=myers', '--src-prefix=a/', '--dst-prefix=b/'],
  ...['--no-renames', '--no-color', '--no-ext-diff', '--no-textconv'],
];

async function compare(
  before: string,
  after: string,
  { repository: { git }, env }: Repo,
): Promise<ReadonlyMap<string, readonly Hunk[] | 'binary'>> {
  const { stdout } = await git(['diff-tree', ...diffOptions, before, after], {
    env,
    maxMemoryBytes: guestDataMemoryBytes,
  });
  return parseHunks(stdout.toString('latin1'));
}
