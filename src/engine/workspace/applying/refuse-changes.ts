import { BangerError } from '../../../errors.ts';
import { blobSizes, mostReadBytes } from '../host-tree/blob-sizes.ts';
import { parseGitConfig } from '../host-tree/git-config.ts';
import { linkProblems, type LinkInput } from './escaping-links.ts';
import type { MergedPath } from './merge-changes.ts';
import { parents } from './path-collisions.ts';
import { displayPath, isTreePath, type RawPath } from '../host-tree/raw-path.ts';
import { directoriesOf } from '../sending/plan-update.ts';

const shownCount = 10;

export interface RefuseInput extends LinkInput {
  readonly vmName: string;
}

/**
 * Throws when what a guest changed could reach beyond the working tree, or replace a file unseen: symlinks that
 * lead out of it, submodules that do, and names that differ from others by case alone, which are one file on some
 * filesystems.
 */
export async function refuseChanges(merged: readonly MergedPath[], input: RefuseInput): Promise<void> {
  const written = merged.filter(({ isWritable, result }) => isWritable && result);
  const problems = [
    ...(await linkProblems(merged, input)),
    ...(await Promise.all(written.map((each) => modulesProblem(each, input)))),
    ...twinProblems(
      written.map(({ path }) => path),
      input.present.map(({ path }) => path),
    ),
  ].filter((problem) => problem !== undefined);
  if (problems.length === 0) return;
  const more = problems.length > shownCount ? `; and ${problems.length - shownCount} more` : '';
  throw new BangerError(
    'invalid_argument',
    `VM "${input.vmName}" made changes that are not applied: ${problems.slice(0, shownCount).join('; ')}${more}`,
    {
      hint: `Take them back in the VM, or look at all of it with: banger workspace export ${input.repository.topLevel} --vm ${input.vmName}`,
    },
  );
}

/**
 * Git follows what `.gitmodules` says when the user next works with submodules: names and paths that lead elsewhere,
 * URLs that are options or commands, and commands to update with are none of a guest's business.
 */
async function modulesProblem(
  { path, result }: MergedPath,
  { repository, env }: RefuseInput,
): Promise<string | undefined> {
  if (!result || folded(path) !== '.gitmodules') return undefined;
  if (!result.mode.startsWith('100')) return `"${displayPath(path)}" is a symlink`;
  const size = (await blobSizes(repository, [result.oid], env)).get(result.oid) ?? 0;
  if (size > mostReadBytes) return `"${displayPath(path)}" is too large to be looked at`;
  const asked = await repository.git(['config', '--blob', result.oid, '--list', '-z'], {
    env,
    okExitCodes: [1, 3, 128],
  });
  if (asked.exitCode !== 0) return `"${displayPath(path)}" is not one that git can read`;
  for (const [name, values] of parseGitConfig(asked.stdout)) {
    const [, module, key] = /^submodule\.([^]+)\.([a-z]+)$/.exec(name) ?? [];
    if (module === undefined) continue;
    const isBad =
      /(^|[/\\])\.\.([/\\]|$)/.test(module) || values.some((value) => badModuleValue(key!, value));
    if (isBad)
      return `"${displayPath(path)}" has a submodule that git would refuse: ${JSON.stringify(`${name}=${values.join(' ')}`)}`;
  }
  return undefined;
}

function badModuleValue(key: string, value: string): boolean {
  if (key === 'path') return value.startsWith('-') || !isTreePath(Buffer.from(value).toString('latin1'));
  if (key === 'url') return /^-|^ext::|[\r\n]/.test(value);
  return key === 'update' && !['checkout', 'rebase', 'merge', 'none'].includes(value);
}

/** New paths that a filesystem which ignores case, or how letters are composed, would take for another one. */
export function twinProblems(written: readonly RawPath[], present: readonly RawPath[]): string[] {
  const known = directoriesOf(present);
  for (const path of present) known.add(path);
  const all = written.flatMap((each) => [...parents(each), each]);
  const added = new Set(all.filter((path) => !known.has(path)));
  const wanted = new Set([...added].map(folded));
  const byFold = new Map<string, RawPath>();
  // Only those that can be one's twin: of a large tree they would take much memory.
  if (wanted.size > 0) for (const path of known) if (wanted.has(folded(path))) byFold.set(folded(path), path);
  const problems: string[] = [];
  for (const path of added) {
    const twin = byFold.get(folded(path));
    if (twin === undefined) byFold.set(folded(path), path);
    else problems.push(`"${displayPath(path)}" differs from "${displayPath(twin)}" by case alone`);
  }
  return problems;
}

function folded(path: RawPath): string {
  return Buffer.from(path, 'latin1').toString('utf8').normalize('NFC').toLowerCase();
}
