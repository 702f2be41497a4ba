import type { Exec } from '../exec.ts';
import { readLinks } from './links.ts';
import { bridgePrefix, heldTapPrefix, tapPrefix, type NetworkOwner } from './plan.ts';

/** Bridges, taps and rules that are named and marked as ours, of somebody whom nobody here knows. */
export interface Leftover {
  readonly owner: NetworkOwner;
  readonly links: readonly string[];
  /** As `nft` names them, such as `inet banger_0a1b` */
  readonly tables: readonly string[];
}

/**
 * What of ours no VM runs on and that is not one of the known owners': of a state directory that was deleted, or that
 * is used no more. Takes the right to list rules.
 */
export async function findLeftovers(
  exec: Exec,
  known: readonly Pick<NetworkOwner, 'tag'>[],
): Promise<readonly Leftover[]> {
  const found = new Map<string, { alias?: string; links: string[]; tables: string[]; isUsed: boolean }>();
  const of = (tag: string) => {
    const one = found.get(tag) ?? { links: [], tables: [], isUsed: false };
    found.set(tag, one);
    return one;
  };
  for (const { name, alias, hasCarrier } of await readLinks(exec)) {
    const [, kind, tag] = linkName.exec(name) ?? [];
    // One that was only half made has no mark yet; one with another's mark is not ours.
    if (tag === undefined || (alias !== undefined && !alias.startsWith(`banger-${tag}`))) continue;
    const one = of(tag);
    one.alias ??= alias;
    one.links.push(name);
    one.isUsed ||= kind !== bridgePrefix && hasCarrier === true;
  }
  const { stdout } = await exec(['nft', 'list', 'tables']);
  for (const [, table, tag] of stdout.toString('utf8').matchAll(tableLine)) of(tag!).tables.push(table!);
  const isKnown = new Set(known.map(({ tag }) => tag));
  return (
    [...found]
      // A name alone may be somebody else's.
      .filter(([, { alias, tables }]) => alias !== undefined || tables.length > 0)
      .filter(([tag, { isUsed }]) => !isUsed && !isKnown.has(tag))
      .map(([tag, { alias, links, tables }]) => ({
        // Rules alone do not say whose they are beyond their tag, and there is nothing else to tell by it.
        owner: { tag, alias: alias ?? `banger-${tag}`, uid: 0 },
        links: links.toSorted(),
        tables,
      }))
  );
}

/**
 * Removes leftovers, and returns those that went. Each is looked at again just before: VMs may have come to run on it,
 * or its owner may have become known.
 */
export async function removeLeftovers(
  exec: Exec,
  known: () => readonly Pick<NetworkOwner, 'tag'>[],
  remove: (owner: NetworkOwner) => Promise<void>,
): Promise<readonly Leftover[]> {
  const removed: Leftover[] = [];
  for (const { owner } of await findLeftovers(exec, known())) {
    const still = (await findLeftovers(exec, known())).find((one) => one.owner.tag === owner.tag);
    if (!still) continue;
    await remove(still.owner);
    removed.push(still);
  }
  return removed;
}

const linkName = new RegExp(`^(${bridgePrefix}|${tapPrefix}|${heldTapPrefix})([0-9a-f]{4})-`);
const tableLine = /^table ((?:bridge|inet) banger_([0-9a-f]{4}))$/gm;
