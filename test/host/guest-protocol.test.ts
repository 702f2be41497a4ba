import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { guestCommand, guestProtocol, requireKnownProtocol } from '../../src/host/guest-protocol.ts';

test('host and guest are built with the same number', () => {
  expect(readFileSync('guest/protocol', 'utf8')).toBe(`${guestProtocol}\n`);
});

test('a guest is asked in the words that it knows', () => {
  expect(guestCommand(1, 'banger-exec', ['--', 'a b'])).toBe("banger-exec -- 'a b'");
  expect(guestCommand(2, 'banger-toolbox', ['true'])).toBe('banger-toolbox/2 true');
});

test('a guest that speaks something else is refused by number, with what helps', () => {
  for (const known of [1, guestProtocol]) requireKnownProtocol(known, 'web');
  const refusal = (protocol: number) => {
    try {
      requireKnownProtocol(protocol, 'web');
    } catch (error) {
      return error as { code: string; message: string; hint: string };
    }
    throw new Error(`${protocol} was taken`);
  };
  const newer = refusal(guestProtocol + 1);
  expect(newer.code).toBe('invalid_state');
  expect(newer.message).toBe(
    `VM "web" was started by a newer banger: its guest speaks protocol ${guestProtocol + 1}, and this one 1 to ${guestProtocol}`,
  );
  expect(newer.hint).toContain('banger vm restart web');
  expect(refusal(0).message).toContain('an older banger: its guest speaks protocol 0');
});
