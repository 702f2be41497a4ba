import type { WorkspaceChange } from '../../rpc/workspace-methods.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import type { GuestChanges, GuestWorkspace } from './guest-changes.ts';

/** Adds the sizes of binary files to what changed, as the guest's git has them; one that it cannot tell stays unknown. */
export async function readSizes(
  { guest, ensureGit, guestPath, signal }: GuestWorkspace,
  { files, paths }: GuestChanges,
): Promise<WorkspaceChange[]> {
  const binary = new Set(files.flatMap(({ added }, index) => (added === undefined ? [index] : [])));
  if (binary.size === 0) return [...files];
  const sides = [...binary].flatMap((index) => [paths[index]?.before?.oid, paths[index]?.after?.oid]);
  const oids = sides.filter((oid) => oid !== undefined);
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const asked = [await ensureGit(), '-C', guestPath, ...guestGitSettings, 'cat-file', '--batch-check'];
  const { stdout } = await guest.run(asked, { input, env: guestGitEnvironment, signal });
  const sizes = new Map(
    [...stdout.toString('latin1').matchAll(/^([0-9a-f]{40,64}) blob (\d{1,15})$/gm)].map(
      ([, oid, size]) => [oid, Number(size)] as const,
    ),
  );
  const sizeOf = (oid: string | undefined): number | undefined => (oid === undefined ? 0 : sizes.get(oid));
  return files.map((file, index) =>
    binary.has(index)
      ? { ...file, oldBytes: sizeOf(paths[index]?.before?.oid), newBytes: sizeOf(paths[index]?.after?.oid) }
      : file,
  );
}
