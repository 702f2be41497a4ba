import { networkSocket } from '../../src/host/drivers/firecracker/namespace.ts';
import { socketArguments } from '../../src/host/drivers/firecracker/network-program.ts';
import { findProcessesByArguments } from '../../src/host/process.ts';

/** The slirp4netns of a VM, whose control socket has a name that is nobody else's. */
export function findNetworkPrograms(controlSocket: string): number[] {
  return socketArguments(networkSocket(controlSocket)).flatMap(findProcessesByArguments);
}
