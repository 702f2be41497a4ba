import { BangerError, errnoOf } from '../../../errors.ts';

/** What filesystems answer that keep no owners or links, as those of other systems and those over a network do not. */
const refusals = new Set(['EPERM', 'EACCES', 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY']);

/** Of an error by which a jail could not be made: one that is the host's, in words; any other as it is. */
export function explainJailRefusal(error: unknown, directory: string): unknown {
  const errno = errnoOf(error);
  if (error instanceof BangerError || errno === undefined || !refusals.has(errno)) return error;
  const { syscall } = error as { readonly syscall?: string };
  return new BangerError(
    'host_unsupported',
    `Firecracker's jail cannot be made at "${directory}": what is in it cannot be given to its user there (${syscall}: ${errno})`,
    {
      hint: 'Let VMs run without: set jailer = "never" under [vmm] in the configuration; or choose another place: BANGER_HOME=DIR banger …',
      cause: error,
    },
  );
}
