/**
 * Characters that a terminal obeys instead of showing them (C0, DEL and the eight-bit C1), and those that reorder
 * what is around them. Guests, registries, archives and working trees choose words that banger prints.
 */
export const obeyedCharacters =
  '[\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]';

const obeyed = new RegExp(obeyedCharacters, 'g');

/** Text on one line that cannot move the cursor, ring bells or reorder what follows: `\xNN` or `\u{…}` stand for it. */
export function printable(text: string): string {
  return text.replace(obeyed, (character) => {
    const code = character.codePointAt(0)!;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

/** As `printable`, of text that has lines and tabs of its own. */
export function printableLines(text: string): string {
  return text.replace(obeyed, (character) =>
    character === '\n' || character === '\t' ? character : printable(character),
  );
}

/** JSON that shows on a terminal what a program reads from it: the same value, with such characters as `\uNNNN`. */
export function printableJson(value: unknown, indent?: number): string {
  return printableJsonText(JSON.stringify(value, undefined, indent));
}

/** As `printableJson`, of what is JSON already: controls that are left stand in its strings. */
export function printableJsonText(json: string): string {
  return json.replace(obeyed, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
