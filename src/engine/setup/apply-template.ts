import type { RecordedTemplate } from '../../state/templates.ts';
import type { CreateVmParams } from '../lifecycle/create-vm.ts';

/** A new VM as the user wants it, and where they say nothing, as the template does. */
export function withTemplate<Params extends Partial<CreateVmParams>>(
  params: Params,
  recorded: RecordedTemplate | undefined,
): Params {
  if (!recorded) return params;
  const { template } = recorded;
  const publish = params.publish ?? [];
  const isPublished = (port: { readonly protocol: string; readonly guestPort: number }): boolean =>
    publish.some((one) => one.protocol === port.protocol && one.guestPort === port.guestPort);
  return {
    ...params,
    image: params.image ?? template.image,
    cpus: params.cpus ?? template.cpus,
    memoryMib: params.memoryMib ?? template.memoryMib,
    diskBytes: params.diskBytes ?? template.diskBytes,
    publish: [...publish, ...template.ports.filter((port) => !isPublished(port))],
    recordedTemplate: recorded,
  };
}
