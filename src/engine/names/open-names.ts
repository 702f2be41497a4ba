import { freeNamePort, listHostSetups, namePortOf } from '../../host/setup/host-setup.ts';
import type { EngineContext } from '../context.ts';
import { bridgeMeans } from '../network/bridges.ts';
import type { Route } from '../rpc/server.ts';
import { NameService } from './name-service.ts';
import { NetworkNames } from './network-names.ts';
import type { OwnProgram } from './ssh-config.ts';
import { SshFiles } from './ssh-files.ts';
import { sshRoutes } from './ssh-routes.ts';

/** That other programs of this host, and guests of one network, know VMs by name. */
export interface Names {
  readonly routes: readonly Route[];
  /** Where DNS is answered for; undefined when nowhere */
  readonly place: () => string | undefined;
  readonly close: () => Promise<void>;
}

/** Begins to keep what others know of VMs up to date. `program` is how this banger is run by them. */
export function openNames(context: EngineContext, program: OwnProgram): Names {
  const files = new SshFiles(context, program);
  const service = new NameService(context, { autoPort: () => autoNamePort(context) });
  const networks = new NetworkNames(context);
  void service.look();
  void networks.look();
  return {
    routes: sshRoutes(context, files),
    place: () => service.place,
    close: async () => {
      files.close();
      await Promise.all([service.close(), networks.close()]);
    },
  };
}

/** Where the resolver of a host that was set up for this user was told to ask; out of the way of those of other users. */
function autoNamePort(context: EngineContext): number {
  const means = bridgeMeans(context);
  if (means?.kind === 'prepared') return namePortOf(means.setup);
  return freeNamePort(listHostSetups(context.hostNetwork.setups));
}
