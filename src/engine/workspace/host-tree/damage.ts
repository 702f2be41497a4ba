import { BangerError } from '../../../errors.ts';
import { promisorRemote } from './git-config.ts';
import type { Repository } from './repository.ts';

/** How git says that it has not got an object, or not all of it. */
const lacking =
  /\b(?:fatal|error): [^\n]*(?:bad \w+ object|unable to read|could not read|traverse parents|missing)[^\n]*/i;

/** Runs git on what is to travel; where objects of that are not there, the error says so, and what can be done. */
export async function namingDamage<T>(
  { topLevel, config }: Pick<Repository, 'topLevel' | 'config'>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const [line] = (error instanceof BangerError && lacking.exec(error.message)) || [];
    if (line === undefined) throw error;
    throw new BangerError('invalid_argument', `"${topLevel}" lacks objects of what is to be sent: ${line}`, {
      hint:
        promisorRemote(config) === undefined
          ? `See what is damaged: git -C ${topLevel} fsck`
          : `It is a partial clone; complete it: git -C ${topLevel} fetch --refetch --no-filter`,
      cause: error,
    });
  }
}
