import { BangerError } from '../../errors.ts';
import type { EngineContext } from '../context.ts';
import { embeddedCatalog, expandShortName } from '../images/catalog.ts';
import { baseName, findImage } from '../images/find-image.ts';
import { parseReference } from '../images/reference.ts';

/** Whose images the catalog has, such as `docker.io/library`. */
const publishers = new Set(embeddedCatalog.map(({ reference }) => publisherOf(reference)));

/**
 * Whether a tree may have its VM made from an image unasked: what is in an image runs there as root. It may when the user
 * has the image, or names it in their configuration, or when it is of somebody whose images are in our catalog.
 */
export function isKnownImage(
  { db, config }: Pick<EngineContext, 'db' | 'config'>,
  reference: string,
): boolean {
  const { image, catalog } = config();
  if (reference === baseName || reference === image) return true;
  try {
    if (expandShortName(reference, catalog) !== undefined || findImage(db, reference, catalog)) return true;
    return publishers.has(publisherOf(reference));
  } catch (error) {
    // No VM is made from what is no reference.
    if (error instanceof BangerError) return true;
    throw error;
  }
}

function publisherOf(reference: string): string {
  const { registry, repository } = parseReference(reference);
  return `${registry}/${repository.replace(/(?:^|\/)[^/]*$/, '')}`;
}
