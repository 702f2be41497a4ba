import { BangerError } from '../../errors.ts';
import type { Database } from '../../state/database.ts';
import { findImageByName, findImagesByPrefix, listImages, type Image } from '../../state/images.ts';
import { expandShortName, wholeCatalog, type OwnCatalog } from './catalog.ts';
import { canonicalName, familiarName, parseReference, repositoryOf, type Reference } from './reference.ts';

/** Name of the image that is embedded in the binary. */
export const baseName = 'base';

/** Shortest id prefix accepted in place of a name, as for VMs. */
const minPrefixLength = 3;
/** Shorter ones than this may well be names, which come first */
const surePrefixLength = 6;
const idLength = 64;

/**
 * Finds the image a user means: by any form of its name, by name and digest, or by an unambiguous start of its id.
 * A name with its tag or digest, as lists show it, is what they show. Short names of the catalog (the user's own
 * entries in `catalog`) come before Docker's meaning of a name otherwise.
 */
export function findImage(db: Database, reference: string, catalog: OwnCatalog = {}): Image | undefined {
  const exact = findImageByName(db, reference);
  if (exact) return exact;
  if (isSurePrefix(reference)) {
    const id = idDigits(reference);
    const byId = findByPrefix(db, reference, id);
    if (byId || id.length === idLength) return byId;
  }
  const byName = findByName(db, reference, catalog);
  if (byName || !isIdPrefix(reference) || isSurePrefix(reference)) return byName;
  return findByPrefix(db, reference, idDigits(reference));
}

function findByName(db: Database, reference: string, catalog: OwnCatalog): Image | undefined {
  const own = findAsListed(db, reference);
  if (own) return own;
  const meant = expandShortName(reference, catalog);
  const listed = meant === undefined ? undefined : findImage(db, meant);
  if (listed) return listed;
  return findAsWritten(db, reference);
}

/** Finds the image that a reference says without any catalog, by its name or by name and digest. */
export function findAsWritten(db: Database, reference: string): Image | undefined {
  const parsed = parseReference(reference);
  return findImageByName(db, canonicalName(parsed)) ?? findByDigest(db, parsed);
}

function findAsListed(db: Database, reference: string): Image | undefined {
  const parsed = parseReference(reference);
  return reference === familiarName(canonicalName(parsed))
    ? findImageByName(db, canonicalName(parsed))
    : undefined;
}

/** Like `findImage`, but throws when there is none, and says how to get it. */
export function getImageByReference(db: Database, reference: string, catalog: OwnCatalog = {}): Image {
  const image = findImage(db, reference, catalog);
  if (image) return image;
  const listed = meantInCatalog(reference, catalog);
  const pull = `Pull it with: banger image pull ${listed ?? reference}`;
  const elsewhere = listed === undefined ? pull : `Did you mean "${listed}"? ${pull}`;
  const isId = isSurePrefix(reference) || (isIdPrefix(reference) && /[0-9]/.test(reference));
  throw notHere(reference, meantHere(db, reference) ?? (isId ? listHint : elsewhere));
}

/** The same, for those to whom an image that is not here is of no use. */
export function getImageHere(db: Database, reference: string, catalog?: OwnCatalog): Image {
  const image = findImage(db, reference, catalog);
  if (image) return image;
  throw notHere(reference, meantHere(db, reference) ?? listHint);
}

const listHint = 'List images with: banger image list';

function notHere(reference: string, hint: string): BangerError {
  return new BangerError('not_found', `There is no image "${reference}" on this host`, { hint });
}

function meantHere(db: Database, reference: string): string | undefined {
  const close = closeName(db, reference);
  return close === undefined ? undefined : `Did you mean "${close}"? ${listHint}`;
}

/** The name of an image here that may be what was mistyped. */
export function closeName(db: Database, reference: string): string | undefined {
  const names = listImages(db).flatMap((known) => known.names.map(familiarName));
  return names.find((name) => isClose(reference, name));
}

/** A short name that was mistyped, but none for a name that is one itself. */
function meantInCatalog(reference: string, catalog: OwnCatalog): string | undefined {
  if (reference === baseName || expandShortName(reference, catalog) !== undefined) return undefined;
  const names = [baseName, ...wholeCatalog(catalog).map(({ name }) => name)];
  return names.find((name) => isMistyped(reference, name));
}

/** True for text that may be the start of an image's id. It may be a name as well: `facade`. */
export function isIdPrefix(reference: string): boolean {
  const id = idDigits(reference);
  return id.length >= minPrefixLength && id.length <= idLength && /^[0-9a-f]+$/.test(id);
}

function isSurePrefix(reference: string): boolean {
  return isIdPrefix(reference) && idDigits(reference).length >= surePrefixLength;
}

function idDigits(reference: string): string {
  return reference.replace(/^sha256:/, '');
}

/** The stored name of an image that a reference spells out, or undefined when it is an id or a digest. */
export function nameMeant(image: Image, reference: string, catalog?: OwnCatalog): string | undefined {
  if (image.names.includes(reference)) return reference;
  if (isSurePrefix(reference) && image.id.startsWith(idDigits(reference))) return undefined;
  const asWritten = canonicalName(parseReference(reference));
  const meant = expandShortName(reference, catalog ?? {});
  const asMeant = meant === undefined ? asWritten : canonicalName(parseReference(meant));
  const spellings = familiarName(asWritten) === reference ? [asWritten, asMeant] : [asMeant, asWritten];
  return spellings.find((name) => image.names.includes(name));
}

/** The same, or the name that was pulled with the digest that a reference has. */
export function namePulled(image: Image, reference: string, catalog?: OwnCatalog): string | undefined {
  const meant = nameMeant(image, reference, catalog);
  const at = reference.indexOf('@');
  if (meant !== undefined || at < 0) return meant;
  const digest = reference.slice(at + 1);
  const repository = repositoryOf(canonicalName(parseReference(reference)));
  return image.names.find((name) => image.digests[name] === digest && repositoryOf(name) === repository);
}

/** What an image was pulled with by the name that is meant, if it is one; else by any. */
export function digestPulled(image: Image, name: string | undefined): string | undefined {
  const own = name === undefined ? undefined : image.digests[name];
  return own ?? Object.values(image.digests)[0] ?? image.digest;
}

/** How a user would be told which image it is. */
export function shownImage(image: Image): string {
  return image.names[0] === undefined ? image.id.slice(0, 12) : familiarName(image.names[0]);
}

function findByPrefix(db: Database, reference: string, prefix: string): Image | undefined {
  const matches = findImagesByPrefix(db, prefix);
  if (matches.length <= 1) return matches[0];
  const shown = matches.map((image) => `${image.id.slice(0, 12)} (${shownImage(image)})`).join(', ');
  throw new BangerError('invalid_argument', `"${reference}" could be any of these images: ${shown}`, {
    hint: 'Give a name or more digits of the id',
  });
}

/** An image pulled by tag is also the one that its digest names, as long as the repository is the same. */
function findByDigest(db: Database, { registry, repository, digest }: Reference): Image | undefined {
  if (digest === undefined) return undefined;
  const repositories = [`${registry}/${repository}:`, `${registry}/${repository}@`];
  return listImages(db).find((image) =>
    image.names.some(
      (name) => image.digests[name] === digest && repositories.some((prefix) => name.startsWith(prefix)),
    ),
  );
}

/** True when a name is part of the other, or a typing error or two away; tags count only when one was given. */
function isClose(wanted: string, known: string): boolean {
  const tag = /:[^/]*$/;
  const [left, right] = tag.test(wanted) ? [wanted, known] : [wanted, known.replace(tag, '')];
  if (left.length < 3 || right.length < 3) return false;
  // The registry or the owner may have been left out.
  if (right.endsWith(`/${left}`)) return true;
  if (left.startsWith(right) || right.startsWith(left)) return true;
  return isMistyped(left, right) || (!left.includes('/') && isMistyped(left, right.replace(/.*\//, '')));
}

function isMistyped(wanted: string, known: string): boolean {
  if (wanted.length < 3 || known.length < 3) return false;
  return editDistance(wanted, known) <= (wanted.length > 4 ? 2 : 1);
}

/** How many letters are wrong, too many, missing or swapped with the next. */
function editDistance(left: string, right: string): number {
  let before: readonly number[] = [];
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (const [at, character] of [...left].entries()) {
    const next = [at + 1];
    for (let column = 1; column <= right.length; column++) {
      const replaced = row[column - 1]! + (right[column - 1] === character ? 0 : 1);
      const isSwapped = right[column - 2] === character && right[column - 1] === left[at - 1];
      const swapped = isSwapped ? before[column - 2]! + 1 : Infinity;
      next.push(Math.min(replaced, swapped, row[column]! + 1, next[column - 1]! + 1));
    }
    before = row;
    row = next;
  }
  return row[right.length]!;
}
