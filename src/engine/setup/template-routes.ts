import type { EngineContext } from '../context.ts';
import { route, type Route } from '../rpc/server.ts';
import { templateRead } from '../rpc/template-methods.ts';
import { findReusableVm } from '../workspace/bound-vm.ts';
import { findRepository } from '../workspace/host-tree/repository.ts';
import { readTemplate } from './read-template.ts';
import { asksFor, needsConsent, portText } from './template-consent.ts';

/** What the engine answers about templates. */
export function templateRoutes(context: EngineContext): Route[] {
  return [
    route(templateRead, async ({ path, hasImage, unlessBound }, { signal }) => {
      const { topLevel: hostPath } = await findRepository(context.exec, path, signal);
      if (unlessBound && findReusableVm(context.db, hostPath)) return { hostPath };
      const read = await readTemplate(hostPath, { hasImage });
      if (!read) return { hostPath };
      const { file, sha256, image, cpus, memoryMib, diskBytes, guestPath, ports, env, setup } = read.template;
      const { commands, ports: asked } = asksFor(read.template);
      return {
        hostPath,
        template: {
          ...{ file, sha256, image, cpus, memoryMib, diskBytes, guestPath },
          ports: ports.map(portText),
          env: { ...env },
          setup: setup.map(({ text }) => text),
          asksFor: { commands: [...commands], ports: [...asked] },
          isAgreed: !needsConsent(context.db, hostPath, read.template),
          warnings: [...read.warnings],
        },
      };
    }),
  ];
}
