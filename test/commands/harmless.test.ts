import { expect, test } from 'vitest';
import { HarmlessText } from '../../src/commands/harmless.ts';

const esc = '\u001b';

test.each([
  ['the clipboard', `a${esc}]52;c;ZXZpbA==\u0007b`],
  ['the title', `a${esc}]0;pwned${esc}\\b`],
  ['a question about settings', `a${esc}P$qm${esc}\\b`],
  ['a question about attributes', `a${esc}[c${esc}[>0q${esc}[6nb`],
  ['the cursor', `a${esc}[2J${esc}[1;1H${esc}[?1049hb`],
  ['character sets and reset', `a${esc}(0${esc}cb`],
  ['a bell and a backspace', 'a\u0007\bb'],
  ['eight-bit controls', 'a\u009b\u009db'],
  ['reordering', 'a\u202eb'],
  ['a sequence built out of what is left of another', `a${esc}${esc}[2J\u0007b`],
])('%s: nothing reaches the terminal, in one piece or byte by byte', (_, text) => {
  const bytes = Buffer.from(text);
  expect(new HarmlessText().push(bytes)).toBe('ab');
  const slow = new HarmlessText();
  expect([...bytes].map((byte) => slow.push(Buffer.from([byte]))).join('')).toBe('ab');
});

test('lines, tabs, colours and letters stay, and colours end with the output', () => {
  const text = `${esc}[1;32mgrün${esc}[0m\tok\r\n`;
  const harmless = new HarmlessText();
  expect(harmless.end()).toBe('');
  expect(harmless.push(Buffer.from(text))).toBe(text);
  expect(harmless.end()).toBe(`${esc}[0m`);
});

test('a sequence that does not end hides nothing that follows', () => {
  const harmless = new HarmlessText();
  const text = `${esc}]0;never ends\nlogin: `;
  expect(harmless.push(Buffer.from(text))).toBe('0;never ends\nlogin: ');
  const long = 'x'.repeat(10_000);
  expect(harmless.push(Buffer.from(`${esc}]${long}`)) + harmless.push(Buffer.from('\nok'))).toBe(
    `${long}\nok`,
  );
});
