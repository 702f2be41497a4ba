import { BangerError } from '../../errors.ts';
import { baseName } from './find-image.ts';
import { canonicalName, parseReference } from './reference.ts';

/** The stored form of a name that a user gives an image. It is read as docker reads it: no catalog. */
export function newName(name: string): string {
  if (name === baseName) {
    throw new BangerError('invalid_argument', `"${baseName}" is the name of the image inside banger`, {
      hint: 'Choose another name, such as: my-base',
    });
  }
  const reference = parseReference(name);
  if (reference.digest === undefined) return canonicalName(reference);
  throw new BangerError('invalid_argument', `"${name}" has a digest, which follows from the content`, {
    hint: `Leave out the digest: ${name.replace(/@.*/, '')}`,
  });
}
