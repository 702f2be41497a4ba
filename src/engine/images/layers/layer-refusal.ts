import { printable } from '../../../printable.ts';

/**
 * Why a layer cannot be used, in words that follow its name: `ends in the
 * middle of an entry`. The conversion knows layer and entry and turns it into
 * an error for people.
 */
export class LayerRefusal extends Error {
  override readonly name = 'LayerRefusal';
}

/** A byte string (latin1) as text for an error, shortened, with control characters as words. */
export function shownName(byteString: string): string {
  const text = Buffer.from(byteString.slice(0, 200), 'latin1').toString('utf8');
  return byteString.length > 200 ? `${printable(text)}…` : printable(text);
}
