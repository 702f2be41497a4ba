import type { Repository } from './repository.ts';
import type { GitVariables } from './scratch-objects.ts';

/** Nobody writes a file for git that is longer, such as `.gitattributes`; those are read whole. */
export const mostReadBytes = 1024 * 1024;

/** Sizes of objects by their names, before anybody reads them; what is not there is left out. */
export async function blobSizes(
  { git }: Pick<Repository, 'git'>,
  oids: readonly string[],
  env: GitVariables,
): Promise<Map<string, number>> {
  const input = Buffer.from(oids.map((oid) => `${oid}\n`).join(''));
  const { stdout } = await git(['cat-file', '--batch-check=%(objectname) %(objectsize)'], { env, input });
  return new Map(
    [...stdout.toString('latin1').matchAll(/^([0-9a-f]{40,64}) (\d+)$/gm)].map(
      ([, oid, size]) => [oid!, Number(size)] as const,
    ),
  );
}
