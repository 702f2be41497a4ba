import type { Reach } from '../../host/drivers/driver.ts';
import type { Vm } from '../../state/vms.ts';

/**
 * How far the VMM itself lets a guest reach: what rules allow goes through the proxy, past the VMM's network. Beside a
 * bridge its network is a way in only: it would lead around the bridge's rules.
 */
export function reachOf({ network, egress }: Pick<Vm, 'network' | 'egress'>): Reach {
  return network === 'user' && egress.kind === 'all' ? 'all' : 'none';
}

/** True for a VM whose guest's packets go nowhere beyond its network. */
export function isHeld({ egress }: Pick<Vm, 'egress'>): boolean {
  return egress.kind !== 'all';
}
