import { userCard } from '../../host/drivers/driver.ts';
import { shellQuote } from '../../host/shell-quote.ts';
import type { EgressPolicy } from '../../state/egress.ts';
import type { Guest } from '../guest.ts';

/** Port of the guest's loopback at which it finds the proxy. Only root may listen there, so that no other user can be it. */
export const proxyPort = 1023;

/** Where sessions of the guest read it (see guest/session). */
const file = '/run/banger/egress';
export const proxyUrl = `http://127.0.0.1:${proxyPort}`;
const notProxied = 'localhost,127.0.0.1,::1';

/**
 * Programs find the proxy by these. Both cases, since programs differ; by HTTP for all protocols, since those that know
 * no SOCKS fail when they are told of it.
 */
export const proxyVariables: Readonly<Record<string, string>> = Object.fromEntries(
  [
    ['http_proxy', proxyUrl],
    ['https_proxy', proxyUrl],
    ['all_proxy', proxyUrl],
    ['no_proxy', notProxied],
  ].flatMap(([name, value]) => [
    [name!, value!],
    [name!.toUpperCase(), value!],
  ]),
);

/**
 * Tells a guest how the outside is reached now. With rules, what does not go through the proxy fails at once instead
 * of waiting for answers that never come: there is no route for it.
 */
export async function tellGuest(guest: Guest, policy: EgressPolicy, signal: AbortSignal): Promise<void> {
  const { exit, stderr } = await guest.runToolbox(['sh', '-c', script(policy)], { signal });
  if (exit.code !== 0) throw new Error(`the guest's routes could not be set: ${stderr.trim().slice(0, 500)}`);
}

function script(policy: EgressPolicy): string {
  // Of the toolbox: what the image has under these names may be anything.
  const ip = '/run/banger/bin/busybox ip';
  const { gateway, dns } = userCard;
  if (policy.kind === 'all')
    return `rm -f ${file}
${ip} route del unreachable ${dns} 2>/dev/null
${ip} route | grep -q '^default ' || ${ip} route add default via ${gateway}`;
  const lines = Object.entries(proxyVariables).map(
    ([name, value]) => `export ${name}=${shellQuote([value])}`,
  );
  return `umask 022
${ip} route del default 2>/dev/null
${ip} route add unreachable ${dns} 2>/dev/null
printf '%s\\n' ${shellQuote(lines)} >${file}.new && mv ${file}.new ${file}`;
}
