import { BangerError, errnoOf } from '../../errors.ts';

/** An error of the host at a path of the user's, in words. */
export function cannotUse(path: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined || error instanceof BangerError) return error;
  const why: Readonly<Record<string, string>> = {
    ENOSPC: 'its disk is full',
    EDQUOT: 'your disk quota is used up',
    EROFS: 'its filesystem is read-only',
    EACCES: 'you may not (EACCES)',
    EPERM: 'you may not (EPERM)',
    EISDIR: 'a directory is in the way',
    EEXIST: 'something is in the way',
    ENOTDIR: 'something is in the way that is not a directory',
    ELOOP: 'a symlink is in the way',
    EINVAL: 'its filesystem does not take such a name or value',
    EILSEQ: 'its filesystem does not take such a name',
    ENAMETOOLONG: 'the name is too long for its filesystem',
  };
  return new BangerError('command_failed', `"${path}" cannot be copied: ${why[errno] ?? errno}`, {
    // The path may be a guest's words: nobody is to paste it.
    hint: errno === 'ENOSPC' || errno === 'EDQUOT' ? 'See how much room there is with: df -h' : undefined,
    cause: error,
  });
}
