import { BangerError } from '../../../errors.ts';
import type { GitConfig } from './git-config.ts';

/** How git says that it is too old for a repository. */
const unknownWords = /^unknown repository extensions? found:\n([^]+)$/;

/** The error for a repository that git here is too old for; undefined where git refuses it for another reason. */
export function unknownExtension(words: string, path: string): BangerError | undefined {
  const names = unknownWords
    .exec(words)?.[1]
    ?.split('\n')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (!names) return undefined;
  if (names.includes('refstorage')) return referencesError(path, 'reftable', 'git here is too old to read');
  return new BangerError(
    'invalid_argument',
    `"${path}" is kept in a way that git here is too old to read: ${names.join(', ')}`,
    { hint: 'Install the git that it was made with, or a newer one; which is here: git --version' },
  );
}

/**
 * Throws where references are not kept in files. Git would answer for most of them; what a cherry-pick or the like has
 * left, and when branches move, is looked for in files.
 */
export function refuseReferenceStorage(config: GitConfig, path: string): void {
  const storage = config.get('extensions.refstorage')?.at(-1);
  if (storage === undefined || storage === 'files') return;
  throw referencesError(path, storage, 'banger does not read');
}

function referencesError(path: string, storage: string, why: string): BangerError {
  return new BangerError(
    'invalid_argument',
    `"${path}" keeps its branches as ${storage} (extensions.refStorage), which ${why}`,
    { hint: `Have git 2.46 or newer keep them in files: git -C ${path} refs migrate --ref-format=files` },
  );
}
