import { mkdirSync, writeFileSync } from 'node:fs';
import { networkOwner } from '../../src/host/network/plan.ts';
import { hostSetupFile, type HostSetup, type PreparedNetwork } from '../../src/host/setup/host-setup.ts';
import type { FakeEngine } from './fake-engine.ts';

/** A network with taps for two VMs, as `host setup` makes them. */
export function preparedNetwork(name: string, number: number, more: Partial<PreparedNetwork> = {}) {
  const addresses = [2, 3].map((last) => `10.213.${number}.${last}`);
  return { name, number, subnet: `10.213.${number}.0/24`, isShared: name !== 'bridge', addresses, ...more };
}

/** As after `host setup`, by whoever cannot change rules. */
export function setUpHost(engine: FakeEngine, more: Partial<HostSetup> = {}): HostSetup {
  engine.faults.isUnprivileged = true;
  const uid = process.getuid!();
  const setup: HostSetup = {
    version: 1,
    user: 'somebody',
    owner: networkOwner('setup', uid),
    networks: [preparedNetwork('bridge', 7)],
    ...more,
  };
  const directory = engine.context.hostNetwork.setups!;
  mkdirSync(directory, { recursive: true });
  writeFileSync(hostSetupFile(uid, directory), JSON.stringify(setup));
  return setup;
}
