import { BangerError } from '../../errors.ts';
import { loopbackForward, userCard } from '../../host/drivers/driver.ts';
import { findFreePort } from '../../host/ports.ts';
import { builtInNetworks } from '../../state/networks.ts';
import { guestSshPort } from '../guest-pool.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import { claimPorts } from '../lifecycle/published-ports.ts';

/**
 * A VM's network. `user`: the VMM's own, which reaches out through the host and lets in what is published. `none`: the
 * same, cut off but for our own way in.
 */
export const network: Capability = {
  name: 'network',
  checkRequest(_context, { network: name, ports }) {
    requireNetwork(name);
    refuseUnreachablePorts(name, ports.length);
    return Promise.resolve();
  },
  async configureGuest(context, vm) {
    const published = await claimPorts(context, vm);
    // Ours first: a user may publish the same port of the guest.
    const forwards = [loopbackForward(await findFreePort(), guestSshPort), ...published];
    const isCutOff = vm.network === 'none';
    return {
      conf: {
        ADDRESS: userCard.address,
        GATEWAY: isCutOff ? '' : userCard.gateway,
        DNS: isCutOff ? '' : userCard.dns,
      },
      network: { user: { forwards, reach: isCutOff ? 'none' : 'all' } },
    };
  },
};

/** Throws `not_found` for a network that is not there. */
function requireNetwork(name: string): void {
  if (builtInNetworks.some((one) => one === name)) return;
  throw new BangerError('not_found', `There is no network named "${name}"`, {
    hint: 'Use one that is always there: --network user, or --network none',
  });
}

/** Throws when ports are to lead into a VM that is to have no network. */
export function refuseUnreachablePorts(network: string, count: number): void {
  if (network !== 'none' || count === 0) return;
  throw new BangerError('invalid_argument', 'A VM without a network has no ports to publish', {
    hint: 'Leave out --publish, or --network none',
  });
}
