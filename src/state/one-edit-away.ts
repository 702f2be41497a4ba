/** True when one character inserted, removed or replaced, or two that changed places, turn one word into the other. */
export function isOneEditAway(left: string, right: string): boolean {
  const [short, long] = left.length <= right.length ? [left, right] : [right, left];
  if (long.length - short.length > 1) return false;
  let at = 0;
  while (at < short.length && short[at] === long[at]) at++;
  const swapped = `${short.slice(at + 1, at + 2)}${short.slice(at, at + 1)}${short.slice(at + 2)}`;
  if (short.length === long.length && swapped === long.slice(at)) return true;
  return short.slice(short.length === long.length ? at + 1 : at) === long.slice(at + 1);
}
