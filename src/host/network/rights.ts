import { hasCapabilities } from '../own-capabilities.ts';

/** True when we may make interfaces and rules (CAP_NET_ADMIN). */
export function mayAdministerNetwork(status?: string): boolean {
  return hasCapabilities(['netAdmin'], status);
}
