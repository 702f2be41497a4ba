import { readFileSync } from 'node:fs';

/** Rights that root's processes may have, or may have lost, by their number (capabilities(7)). */
const numbers = { setgid: 6, setuid: 7, netAdmin: 12, sysChroot: 18, sysResource: 24 } as const;

/** True when a process has all of these rights now; `status` is the text of its /proc/PID/status, ours unless given. */
export function hasCapabilities(
  names: readonly (keyof typeof numbers)[],
  status = readFileSync('/proc/self/status', 'utf8'),
): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return names.every((name) => (effective & (1n << BigInt(numbers[name]))) !== 0n);
}
