import type { EngineContext } from '../context.ts';
import { route, type Route } from '../rpc/server.ts';
import { templateRead } from '../rpc/template-methods.ts';
import { findReusableVm } from '../workspace/bound-vm.ts';
import { findRepository } from '../workspace/host-tree/repository.ts';
import { readTemplate } from './read-template.ts';
import { toolsNeedConsent } from './tool-consent.ts';
import { findToolFiles } from './tool-files.ts';
import { asksFor, needsConsent, portText } from './template-consent.ts';

/** What the engine answers about templates. */
export function templateRoutes(context: EngineContext): Route[] {
  return [
    route(templateRead, async ({ path, hasImage, file: chosen, toolsOnly, unlessBound }, { signal }) => {
      const { topLevel: hostPath } = await findRepository(context.exec, path, signal);
      const files = await findToolFiles(hostPath);
      const isDemanding = files !== undefined && toolsNeedConsent(context.db, hostPath, files);
      const tools = isDemanding ? { sha256: files.sha256, files: [...files.demanding] } : undefined;
      if (toolsOnly || (unlessBound && findReusableVm(context.db, hostPath))) return { hostPath, tools };
      const read = await readTemplate(hostPath, { hasImage, file: chosen });
      if (!read) return { hostPath, tools };
      const { file, sha256, image, cpus, memoryMib, diskBytes, guestPath, ports, env, setup } = read.template;
      const asked = asksFor(context, read.template);
      return {
        hostPath,
        tools,
        template: {
          ...{ file, sha256, image, cpus, memoryMib, diskBytes, guestPath },
          ports: ports.map(portText),
          env: { ...env },
          setup: setup.map(({ text }) => text),
          asksFor: {
            ...asked,
            ...{ commands: [...asked.commands], variables: [...asked.variables], ports: [...asked.ports] },
          },
          isAgreed: !needsConsent(context, hostPath, { template: read.template, hasImage }),
          warnings: [...read.warnings],
        },
      };
    }),
  ];
}
