import type { RecordedTemplate } from '../../state/templates.ts';
import type { CreateVmParams } from '../lifecycle/create-vm.ts';

/**
 * A new VM as the user wants it, and where they say nothing, as the template does. Ports are nothing that a VM without a
 * network could have, and no reason not to make one: they are told and left out.
 */
export function withTemplate<Params extends Partial<CreateVmParams>>(
  params: Params,
  recorded: RecordedTemplate | undefined,
  { network, note }: { readonly network: string; readonly note: ((sentence: string) => void) | undefined },
): Params {
  if (!recorded) return params;
  const { template } = recorded;
  const publish = params.publish ?? [];
  const hasPorts = network !== 'none';
  if (!hasPorts && template.ports.length > 0)
    note?.(
      `Warning: "${template.file}" asks for ports, and they are left out: the VM has no network (--network none)`,
    );
  const isPublished = (port: { readonly protocol: string; readonly guestPort: number }): boolean =>
    publish.some((one) => one.protocol === port.protocol && one.guestPort === port.guestPort);
  return {
    ...params,
    image: params.image ?? template.image,
    cpus: params.cpus ?? template.cpus,
    memoryMib: params.memoryMib ?? template.memoryMib,
    diskBytes: params.diskBytes ?? template.diskBytes,
    publish: [...publish, ...template.ports.filter((port) => hasPorts && !isPublished(port))],
    recordedTemplate: recorded,
  };
}
