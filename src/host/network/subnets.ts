import { parseAddress, subnetText } from './addresses.ts';
import { hostAddress, type NetworkOwner } from './plan.ts';
import { findClash, type Route } from './routes.ts';

/** The addresses that networks are taken from, a /24 each. */
const poolFirst = parseAddress('10.213.0.0')!;
const largestNumber = 254;
/** First and last of the numbers that guests' addresses end in: the first of all is the host's. */
const guestNumbers = { first: 2, last: 253 } as const;

export function subnetOf(number: number): string {
  return subnetText({ first: poolFirst + number * 256, prefix: 24 });
}

/** Every address that a guest may have, in the order in which they are given out. */
export function guestAddresses(subnet: string): string[] {
  const count = guestNumbers.last - guestNumbers.first + 1;
  return Array.from({ length: count }, (_, index) => hostAddress(subnet, guestNumbers.first + index));
}

/**
 * The number of a new network, to whose addresses the host has no route yet; undefined when there is none. Owners begin
 * at different places, so that two that never see each other's routes rarely meet.
 */
export function chooseNumber(
  { tag }: Pick<NetworkOwner, 'tag'>,
  isTaken: (number: number) => boolean,
  routes: readonly Route[],
): number | undefined {
  const start = Number.parseInt(tag, 16) % largestNumber;
  for (let step = 0; step < largestNumber; step++) {
    const number = ((start + step) % largestNumber) + 1;
    if (!isTaken(number) && !findClash(subnetOf(number), routes)) return number;
  }
  return undefined;
}
