import type { Image } from '../../state/images.ts';
import { familiarName, repositoryOf } from './reference.ts';

/** Where an image is to be had from again. */
export interface Origin {
  /** Stored name that was pulled from there, or is a tag more in the same repository */
  readonly name: string;
  /** Repository and digest: whatever has become of its tags, nothing else can come of it */
  readonly reference: string;
}

/**
 * Where an image can come from again, best first: from where `asked`, one of its names, was pulled.
 *
 * A name says that only with the digest that it was pulled with; one that a user gave may be a stranger's at its
 * registry. In a database that is older than digests of names, all names of a pulled image have one: a name without
 * a registry, beside one with another and the same digest, was most likely given here, and comes last.
 */
export function originsOf(image: Image, asked?: string): Origin[] {
  const names = Object.keys(image.digests);
  const isGiven = (name: string): boolean =>
    isOfHub(name) && names.some((each) => !isOfHub(each) && image.digests[each] === image.digests[name]);
  const rank = (name: string): number => (isGiven(name) ? 2 : name === asked ? 0 : 1);
  const origins = new Map<string, Origin>();
  for (const name of names.toSorted((left, right) => rank(left) - rank(right))) {
    const reference = familiarName(`${repositoryOf(name)}@${image.digests[name]}`);
    if (!origins.has(reference)) origins.set(reference, { name, reference });
  }
  return [...origins.values()];
}

function isOfHub(name: string): boolean {
  return name.startsWith('docker.io/');
}
