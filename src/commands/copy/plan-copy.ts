import { posix } from 'node:path';
import { BangerError } from '../../errors.ts';
import type { guestPathKinds } from '../../engine/rpc/vm-copy-methods.ts';
import type { Ending } from './copy-place.ts';

export type PathKind = (typeof guestPathKinds)[number];

/** What one end of a copy turned out to be. */
export interface CopyEnd {
  readonly typed: string;
  /** Absolute, without a slash at its end */
  readonly path: string;
  readonly ending: Ending;
  readonly kind: PathKind;
}

/** Where the source goes. */
export type CopyPlan =
  /** It becomes the entry with this name in this directory */
  | {
      readonly to: 'entry';
      readonly directory: string;
      readonly name: string;
      /** The entry itself was named by the user: where it is a symlink, what that leads to is replaced */
      readonly isNamed: boolean;
    }
  /** What is in it goes into this directory */
  | { readonly to: 'content'; readonly directory: string };

/** Decides what becomes of a copy, by docker's rules. Throws what docker refuses. */
export function planCopy(source: CopyEnd, destination: CopyEnd): CopyPlan {
  refuseSource(source);
  const isDirectory = source.kind === 'directory';
  const named: CopyPlan = {
    to: 'entry',
    directory: posix.dirname(destination.path),
    name: posix.basename(destination.path),
    isNamed: true,
  };
  switch (destination.kind) {
    case 'no-parent':
      throw new BangerError(
        'not_found',
        `There is no directory to make "${destination.typed}" in: "${posix.dirname(destination.path)}" is missing`,
        { hint: 'Make it first; cp does not make directories on the way' },
      );
    case 'missing':
      if (isDirectory || destination.ending === 'plain') return named;
      throw new BangerError('not_found', `"${destination.typed}" is not a directory that exists`, {
        hint: `Make it first, or leave the slash away to copy to a file of that name`,
      });
    case 'directory': {
      const name = posix.basename(source.path);
      const isContent = isDirectory && (source.ending === 'content' || name === '');
      if (isContent) return { to: 'content', directory: destination.path };
      return { to: 'entry', directory: destination.path, name, isNamed: false };
    }
    case 'file':
      if (isDirectory)
        throw new BangerError(
          'invalid_argument',
          `"${source.typed}" is a directory and cannot replace the file "${destination.typed}"`,
          { hint: 'Copy it to a directory, or to a name that is free' },
        );
      if (destination.ending !== 'plain') throw notDirectory(destination);
      return named;
    case 'symlink':
    case 'other':
      throw new BangerError(
        'invalid_argument',
        `"${destination.typed}" is neither a file nor a directory: nothing is copied to devices, pipes and sockets`,
        { hint: 'Give - as the destination to get a tar on standard output' },
      );
  }
}

function refuseSource(source: CopyEnd): void {
  if (source.kind === 'missing' || source.kind === 'no-parent')
    throw new BangerError('not_found', `"${source.typed}" does not exist`, {
      hint: 'A path in a VM is VM:PATH and counts from /',
    });
  if (source.ending !== 'plain' && source.kind !== 'directory') throw notDirectory(source);
}

function notDirectory({ typed }: CopyEnd): BangerError {
  return new BangerError('invalid_argument', `"${typed}" ends as a directory does, but is none`, {
    hint: 'Leave away what follows its name',
  });
}
