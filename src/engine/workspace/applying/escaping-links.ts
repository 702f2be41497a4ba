import { readlinkSync } from 'node:fs';
import { errnoOf } from '../../../errors.ts';
import { blobSizes } from '../host-tree/blob-sizes.ts';
import type { MergedPath } from './merge-changes.ts';
import { parents } from './path-collisions.ts';
import { displayPath, hostBytes, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';
import type { TreeFile } from '../host-tree/tree-files.ts';

const symlinkMode = '120000';
/** No kernel takes more. */
const longestTarget = 4096;
const mostLinksOnTheWay = 40;
/** Of all ways together: a guest could make links by which looking takes for ever. */
const mostSteps = 2_000_000;

export interface LinkInput {
  readonly repository: Repository;
  readonly env: GitVariables;
  /** What of the host's tree stays */
  readonly present: readonly TreeFile[];
}

/**
 * Says which symlinks lead out of the tree as it is to be: those of the guest, and those of the host whose way goes
 * through what the guest changed. Each is followed part by part, as the kernel does: what `..` is after a link depends
 * on where that leads.
 */
export async function linkProblems(merged: readonly MergedPath[], input: LinkInput): Promise<string[]> {
  const changed = merged.filter(({ isWritable }) => isWritable);
  const links = changed.filter(({ result }) => result?.mode === symlinkMode);
  const known = await readTargets([...new Set(links.map(({ result }) => result!.oid))], input);
  const targets = new Map(links.map(({ path, result }) => [path, known.get(result!.oid)] as const));
  const way = new Ways(new Set(changed.map(({ path }) => path)), targets, input.repository.topLevel);
  const problems: string[] = [];
  for (const [path, target] of targets) {
    if (target === undefined)
      problems.push(`"${displayPath(path)}" is a symlink with a target too long to be one`);
    else if (way.leads(path, target) !== 'inside')
      problems.push(
        `"${displayPath(path)}" is a symlink that leads out of the tree, to "${displayPath(target)}"`,
      );
  }
  for (const { path, target } of input.present) {
    if (!target || targets.has(path)) continue;
    if (way.leads(path, target.toString('latin1')) === 'outside by a change')
      problems.push(
        `"${displayPath(path)}" is a symlink here that would lead out of the tree by what changed`,
      );
  }
  return problems;
}

/** Targets by the names of objects; those that are too long are left out. */
async function readTargets(
  oids: readonly string[],
  { repository: { git }, env }: LinkInput,
): Promise<Map<string, string>> {
  if (oids.length === 0) return new Map();
  const asked = (names: readonly string[]) => Buffer.from(names.map((oid) => `${oid}\n`).join(''));
  const short = [...(await blobSizes({ git }, oids, env))].flatMap(([oid, size]) =>
    size <= longestTarget ? [oid] : [],
  );
  if (short.length === 0) return new Map();
  const content = (await git(['cat-file', '--batch'], { env, input: asked(short) })).stdout.toString(
    'latin1',
  );
  const targets = new Map<string, string>();
  for (let at = 0; at < content.length;) {
    const end = content.indexOf('\n', at);
    const [oid, , size] = content.slice(at, end).split(' ');
    targets.set(oid!, content.slice(end + 1, end + 1 + Number(size)));
    at = end + 1 + Number(size) + 1;
  }
  return targets;
}

/** Follows symlinks through a tree that is to be. */
class Ways {
  readonly #changed: ReadonlySet<RawPath>;
  readonly #targets: ReadonlyMap<RawPath, string | undefined>;
  readonly #topLevel: string;
  readonly #here = new Map<RawPath, string | undefined>();
  #steps = 0;

  constructor(
    changed: ReadonlySet<RawPath>,
    targets: ReadonlyMap<RawPath, string | undefined>,
    topLevel: string,
  ) {
    this.#changed = changed;
    this.#targets = targets;
    this.#topLevel = topLevel;
  }

  leads(path: RawPath, target: string): 'inside' | 'outside' | 'outside by a change' {
    const at = path.split('/').slice(0, -1);
    const left = target.split('/').reverse();
    let isChanged = this.#changed.has(path);
    const outside = (): 'outside' | 'outside by a change' => (isChanged ? 'outside by a change' : 'outside');
    if (target.startsWith('/')) return outside();
    let links = 0;
    for (let part = left.pop(); part !== undefined; part = left.pop()) {
      if (++this.#steps > mostSteps) return 'outside by a change';
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (at.pop() === undefined) return outside();
        continue;
      }
      if (/^\.git$/i.test(part)) return outside();
      at.push(part);
      const place = at.join('/');
      isChanged ||= this.#changed.has(place);
      const next = this.#targetAt(place);
      if (next === undefined) continue;
      if (next.startsWith('/') || ++links > mostLinksOnTheWay) return outside();
      at.pop();
      left.push(...next.split('/').reverse());
    }
    return 'inside';
  }

  /** What a symlink at a path leads to; undefined when there is none. */
  #targetAt(path: RawPath): string | undefined {
    if (this.#changed.has(path)) return this.#targets.get(path);
    if (this.#here.has(path)) return this.#here.get(path);
    // Below what becomes a directory there is only what is new.
    const isBelowChange = parents(path).some((parent) => this.#changed.has(parent));
    const target = isBelowChange ? undefined : readLink(hostBytes(this.#topLevel, path));
    this.#here.set(path, target);
    return target;
  }
}

function readLink(path: Buffer): string | undefined {
  try {
    return readlinkSync(path, { encoding: 'buffer' }).toString('latin1');
  } catch (error) {
    // Nothing, no link, or nothing that can be looked at.
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
