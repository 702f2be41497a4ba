import type { VmmDisk, VmmNetwork } from '../../host/drivers/driver.ts';
import { removeJailOf } from '../../host/drivers/firecracker/remove-jail.ts';
import type { VmmChoice } from '../../host/vmm-choice.ts';
import { vmPaths } from '../../state/layout.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { failpoint } from '../failpoints.ts';
import { forAll } from '../for-all.ts';
import { egress } from '../egress/match-egress.ts';
import { network } from '../network/network.ts';
import type { Operation } from '../operations.ts';
import { followedPorts } from '../ports/port-followers.ts';
import { publishedSockets } from '../ports/published-sockets.ts';
import { fileSync } from '../sync/file-sync.ts';
import { gitIdentity } from '../sync/git-identity.ts';
import { rootDisk } from './root-disk.ts';
import { removeVmDirectory } from './vm-directory.ts';

/** What a VM is going to be, before it exists. */
export type PlannedVm = Pick<
  Vm,
  | 'name'
  | 'imageId'
  | 'cpus'
  | 'memoryMib'
  | 'diskBytes'
  | 'diskMethod'
  | 'network'
  | 'ports'
  | 'sockets'
  | 'fileSync'
  | 'takesConfigFiles'
  | 'egress'
>;

/** What a capability adds to one start of a VM. */
export interface GuestSetup {
  /** Variables of the guest's vm.conf (see guest/init) */
  readonly conf?: Readonly<Record<string, string>>;
  /** What the VMM opens as its root disk */
  readonly disk?: VmmDisk;
  readonly network?: VmmNetwork;
}

/**
 * A feature that touches both host and guest. The verbs call the hooks of all of them in order, and clean up in
 * reverse, so that a new feature plugs in without touching the verbs.
 */
export interface Capability {
  readonly name: string;
  /** Refuses what cannot work whatever the image is, before one is pulled */
  checkRequest?(
    context: EngineContext,
    vm: Pick<PlannedVm, 'network' | 'ports' | 'sockets' | 'egress' | 'fileSync' | 'takesConfigFiles'>,
  ): Promise<void>;
  /** Refuses what cannot work, before anything is made */
  preflight?(context: EngineContext, vm: PlannedVm): Promise<void>;
  /** Takes what only one VM can have, while its row is made: milliseconds, under the reservation lock */
  reserve?(context: EngineContext, vm: Vm): Promise<void>;
  /** Makes what the VM keeps on the host. Once, when it is created. */
  prepareHost?(context: EngineContext, vm: Vm, operation: Operation): Promise<void>;
  /** Says what this start needs. Asked again when a start is tried again. */
  configureGuest?(context: EngineContext, vm: Vm, choice: VmmChoice): Promise<GuestSetup>;
  /** Runs when the guest is ready */
  afterStart?(context: EngineContext, vm: Vm, operation: Operation): Promise<void>;
  /** Takes back what `configureGuest` made for a start. The VMM has gone; one that never came counts, too. */
  afterStop?(context: EngineContext, vm: Vm): Promise<void>;
  /** Removes what `prepareHost` made, or began to make. What is gone already counts as removed. */
  cleanUp?(context: EngineContext, vm: Vm): Promise<void>;
}

/** The VM's directory: logs, keys, handles and whatever else lives as long as the VM does. */
const directory: Capability = {
  name: 'directory',
  async afterStop(context, vm) {
    await removeJailOf({ id: vm.id, vmmLog: vmPaths(context.layout, vm.id).vmmLog });
  },
  cleanUp: (context, vm) => removeVmDirectory(context.layout, vm),
};

/** In the order in which they are set up. */
export const builtInCapabilities: readonly Capability[] = [
  directory,
  rootDisk,
  network,
  egress,
  followedPorts,
  publishedSockets,
  fileSync,
  gitIdentity,
];

/**
 * Runs every capability's clean-up, last made first, whatever the others do; their errors are joined.
 *
 * Except for the first one, the VM's directory, which goes only when all else has: what is left on the host is
 * written down there, such as devices that somebody holds, and found by whoever tries again.
 */
export async function cleanUpCapabilities(context: EngineContext, vm: Vm): Promise<void> {
  const cleanUp = async (capability: Capability): Promise<void> => {
    if (!capability.cleanUp) return;
    await capability.cleanUp(context, vm);
    await failpoint(`${capability.name} removed`);
  };
  const [first, ...others] = context.capabilities;
  await forAll(others.reverse(), cleanUp);
  if (first) await cleanUp(first);
}
