import { expect, test } from 'vitest';
import { renderTable } from '../../src/commands/table.ts';

test('columns are as wide as their widest cell, two spaces apart, without trailing spaces', () => {
  expect(
    renderTable(
      ['NAME', 'X', 'STATE'],
      [
        ['a', 'longer', 'on'],
        ['bcdefg', '', 'off'],
      ],
    ),
  ).toBe(['NAME    X       STATE', 'a       longer  on', 'bcdefg          off'].join('\n'));
});

test('characters that take two columns are counted as two', () => {
  expect(
    renderTable(
      ['NAME', 'STATE'],
      [
        ['漢字', 'on'],
        ['abc', 'off'],
      ],
    ),
  ).toBe(['NAME  STATE', '漢字  on', 'abc   off'].join('\n'));
});

test('control characters are shown, not obeyed', () => {
  expect(renderTable(['NAME'], [['a\u001b]0;x\u0007']])).toBe('NAME\na\\x1b]0;x\\x07');
});
