import { expect, test } from 'vitest';
import { printable, printableJson, printableJsonText, printableLines } from '../src/printable.ts';

/** Every character that a terminal may obey, or that reorders text: named by their Unicode properties. */
const everyObeyed = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code)).filter(
  (character) => /\p{Cc}|\p{Bidi_Control}/u.test(character),
);
const hasObeyed = (text: string): boolean => /\p{Cc}|\p{Bidi_Control}/u.test(text);

test('text from outside cannot move the cursor or turn what follows around', () => {
  expect(printable('a\u001b[2Jb\u202ec\n')).toBe('a\\x1b[2Jb\\u{202e}c\\x0a');
  expect(everyObeyed).toHaveLength(65 + 12);
  for (const character of everyObeyed) {
    expect(hasObeyed(printable(character)), JSON.stringify(character)).toBe(false);
    if (character !== '\n' && character !== '\t')
      expect(printableLines(character), JSON.stringify(character)).toBe(printable(character));
  }
});

test('letters of every script, lines and tabs stay as they are', () => {
  const text = 'name\tgrün 日本語 עברית 👩‍💻\nnext';
  expect(printableLines(text)).toBe(text);
});

test('what is printable already stays as it is', () => {
  const once = printable(everyObeyed.join(''));
  expect(printable(once)).toBe(once);
});

test('JSON is the same value, and shows no control character but its own line ends', () => {
  const value = { [everyObeyed.join('')]: [everyObeyed.join(''), 'grün', 1] };
  for (const text of [printableJson(value, 2), printableJsonText(JSON.stringify(value))]) {
    expect(JSON.parse(text)).toEqual(value);
    expect(hasObeyed(text.replaceAll('\n', ''))).toBe(false);
  }
  expect(printableJson(value)).not.toContain('\n');
});
