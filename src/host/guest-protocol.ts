import { BangerError } from '../errors.ts';
import { shellQuote } from './shell-quote.ts';

/**
 * The words between banger and its part in a guest (`guest/session`), and what scripts of ours find there, by number.
 *
 * A VM keeps the part that it was started with, and so an engine meets those of older and of newer builds. What
 * changes them raises the number here and in `guest/protocol`. Three words have none, and stay for ever:
 * `banger-protocol` (what is spoken), `banger-poweroff` with its answer `flushed`, and the ready line's own shape.
 */
export const guestProtocol = 5;
/** The oldest that is still spoken: before there were numbers. */
export const oldestGuestProtocol = 1;

/** The first that knows secrets and shows a forwarded agent to the image. */
export const secretsProtocol = 3;
/** The first that has a relay to Unix sockets. */
export const relayProtocol = 4;
/** The first that has one to UDP ports. */
export const datagramProtocol = 5;

/** Words that a guest's part is asked with. */
export type GuestWord = 'banger-exec' | 'banger-toolbox';

/** A command line for a guest's SSH service. A part that speaks another protocol refuses it by its number. */
export function guestCommand(protocol: number, word: GuestWord, words: readonly string[]): string {
  return shellQuote([protocol === oldestGuestProtocol ? word : `${word}/${protocol}`, ...words]);
}

/** Throws `invalid_state` when the guest of a VM speaks what this build does not. `name` is the VM's. */
export function requireKnownProtocol(protocol: number, name: string): void {
  if (protocol >= oldestGuestProtocol && protocol <= guestProtocol) return;
  const age = protocol > guestProtocol ? 'a newer' : 'an older';
  const spoken = `${oldestGuestProtocol} to ${guestProtocol}`;
  throw new BangerError(
    'invalid_state',
    `VM "${name}" was started by ${age} banger: its guest speaks protocol ${protocol}, and this one ${spoken}`,
    {
      hint: `Give it this one's guest part with: banger vm restart ${name}; or use the banger that started it`,
    },
  );
}
