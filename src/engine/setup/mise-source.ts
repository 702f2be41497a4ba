import { canFindHost } from '../../host/names.ts';
import { parseEgress, type EgressPolicy } from '../../state/egress.ts';
import type { EngineContext } from '../context.ts';

/** How long the host may take to find the address of mise's installer. */
const findHostTimeoutMs = 10_000;

/** What a VM may reach. */
export interface Reach {
  readonly network: string;
  readonly egress: EgressPolicy;
}

/** What a VM will be able to reach that is made like this; where nothing is said, the configuration counts. */
export function plannedReach(
  context: Pick<EngineContext, 'config'>,
  { network, egress }: { readonly network?: string; readonly egress?: readonly string[] },
): Reach {
  const config = context.config();
  return {
    network: network ?? config.network,
    egress: egress === undefined ? config.egress : parseEgress(egress),
  };
}

/** Why nothing can be fetched in a VM, in words that follow "and"; undefined when it may reach something. */
export function whyCutOff({ network, egress }: Reach): string | undefined {
  if (network === 'none') return 'the VM has no network (--network none)';
  if (egress.kind === 'rules' && egress.rules.length === 0)
    return 'the VM may reach nothing outside (--egress none)';
  return undefined;
}

/** Why a guest cannot fetch mise, as far as that is known without trying; undefined when it is worth trying. */
export async function whyNoMise(
  context: Pick<EngineContext, 'config'>,
  reach: Reach,
): Promise<string | undefined> {
  const cutOff = whyCutOff(reach);
  if (cutOff !== undefined) return cutOff;
  const host = new URL(context.config().miseInstaller).hostname;
  if (await canFindHost(host, findHostTimeoutMs)) return undefined;
  return `this host does not find "${host}", where it would come from`;
}
