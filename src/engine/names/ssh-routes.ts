import type { EngineContext } from '../context.ts';
import type { ResultOf } from '../rpc/method.ts';
import { route, type Route } from '../rpc/server.ts';
import { hostNameOf, sshConfigKeep, sshConfigShow, sshWay } from '../rpc/ssh-methods.ts';
import type { SshFiles } from './ssh-files.ts';
import { findSshWay } from './ssh-way.ts';

/** What other programs need of the engine to reach VMs over SSH. */
export function sshRoutes(context: EngineContext, files: SshFiles): Route[] {
  const view = (): ResultOf<typeof sshConfigShow> => ({
    file: context.layout.sshConfig,
    isKept: files.isKept,
    config: files.text(),
    hosts: files.hosts().map(hostNameOf),
  });
  return [
    route(sshWay, ({ host }, { signal }) => findSshWay(context, files, { host, signal })),
    route(sshConfigShow, async () => {
      // Whoever keeps what is printed finds its key pair and host keys in their places.
      await context.clientKey();
      await files.writeKnownHosts();
      return view();
    }),
    route(sshConfigKeep, async ({ keep }) => {
      if (keep) await context.clientKey();
      await (keep ? files.keep() : files.forget());
      return view();
    }),
  ];
}
