import { readFileSync } from 'node:fs';

const netAdmin = 1n << 12n;

/** True when we may make interfaces and rules (CAP_NET_ADMIN, see capabilities(7)). */
export function mayAdministerNetwork(status = readFileSync('/proc/self/status', 'utf8')): boolean {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (effective & netAdmin) !== 0n;
}
