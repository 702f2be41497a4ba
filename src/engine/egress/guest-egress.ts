import { shellQuote } from '../../host/shell-quote.ts';
import type { EgressPolicy } from '../../state/egress.ts';
import type { Guest } from '../guest.ts';

/** Port of the guest's loopback at which it finds the proxy. Only root may listen there, so that no other user can be it. */
export const proxyPort = 1023;

/** Where sessions of the guest read it (see guest/session). */
const file = '/run/banger/egress';
export const proxyUrl = `http://127.0.0.1:${proxyPort}`;
const notProxied = ['localhost', '127.0.0.1', '::1'];

/** Where a guest is on its network. */
export interface GuestPlace {
  readonly gateway: string;
  /** A name server that it has no way to while it has rules, though it is on its own network */
  readonly nameServer?: string;
  /** The network whose guests it reaches by their addresses and by `NAME.vm`, whatever its rules are */
  readonly neighbours?: string;
}

/**
 * Programs find the proxy by these. Both cases, since programs differ; by HTTP for all protocols, since those that know
 * no SOCKS fail when they are told of it.
 */
function proxyVariables({ neighbours }: GuestPlace): [string, string][] {
  const direct = [...notProxied, ...(neighbours === undefined ? [] : ['.vm', neighbours])];
  const variables: [string, string][] = [
    ['http_proxy', proxyUrl],
    ['https_proxy', proxyUrl],
    ['all_proxy', proxyUrl],
    ['no_proxy', direct.join(',')],
  ];
  return variables.flatMap(([name, value]) => [
    [name, value],
    [name.toUpperCase(), value],
  ]);
}

/** What a guest is told. */
export interface GuestWay {
  readonly policy: EgressPolicy;
  readonly place: GuestPlace;
}

/**
 * Tells a guest how the outside is reached now. With rules, what does not go through the proxy fails at once instead
 * of waiting for answers that never come: there is no route for it.
 */
export async function tellGuest(guest: Guest, told: GuestWay, signal: AbortSignal): Promise<void> {
  const { exit, stderr } = await guest.runToolbox(['sh', '-c', script(told)], { signal });
  if (exit.code !== 0) throw new Error(`the guest's routes could not be set: ${stderr.trim().slice(0, 500)}`);
}

function script({ policy, place }: GuestWay): string {
  // Of the toolbox: what the image has under these names may be anything.
  const ip = '/run/banger/bin/busybox ip';
  const { gateway, nameServer } = place;
  const unreachable = (verb: 'add' | 'del'): string =>
    nameServer === undefined ? '' : `${ip} route ${verb} unreachable ${nameServer} 2>/dev/null`;
  if (policy.kind === 'all')
    return `rm -f ${file}
${unreachable('del')}
${ip} route | grep -q '^default ' || ${ip} route add default via ${gateway}`;
  const lines = proxyVariables(place).map(([name, value]) => `export ${name}=${shellQuote([value])}`);
  return `umask 022
${ip} route del default 2>/dev/null
${unreachable('add')}
printf '%s\\n' ${shellQuote(lines)} >${file}.new && mv ${file}.new ${file}`;
}
