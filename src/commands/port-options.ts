import { parsePortText, type PortRequest } from '../engine/rpc/port-text.ts';
import {
  isSocketText,
  parseHostSocket,
  parseSocketText,
  type SocketRequest,
} from '../engine/rpc/socket-text.ts';
import { orUsage } from './parse.ts';

/** How `--publish` is written. */
export const publishSyntax = '[[ADDRESS:]PORT:]GUESTPORT[/udp] or HOSTSOCKET:GUESTSOCKET';

/** What `--publish` leads into a VM. */
export type Published = PortRequest | SocketRequest;

/** A port of the host, as `--unpublish` names it, or the path of a socket. */
export type PublishedName = PortName | { readonly hostPath: string };

export interface PortName {
  readonly protocol: 'tcp' | 'udp';
  readonly hostPort: number;
  /** As far as they are written */
  readonly bind?: string;
  readonly guestPort?: number;
}

type Collector<T> = (text: string, collected?: readonly T[]) => T[];

/**
 * Collects `--publish`, written as for docker: `80`, `8080:80`, `0.0.0.0:8080:80`, `53:53/udp`; or two paths of Unix
 * sockets, that of the host relative to `cwd` if it begins with a dot.
 */
export function publishCollector(cwd: string): Collector<Published> {
  return (text, collected = []) => [
    ...collected,
    orUsage(() => (isSocketText(text) ? parseSocketText(text, cwd) : parsePortText(text))),
  ];
}

/** Collects names: `8080`, `53/udp`, `/run/web.sock`, or all that was published: `127.0.0.1:8080:80`. */
export function publishedNameCollector(cwd: string): Collector<PublishedName> {
  return (text, collected = []) => [
    ...collected,
    orUsage(() => {
      if (isSocketText(text)) return { hostPath: parseHostSocket(text.split(':')[0]!, cwd) };
      const { protocol, bind, hostPort, guestPort } = parsePortText(text);
      if (hostPort === undefined) return { protocol, hostPort: guestPort };
      const isPlaced = text.split(':').length > 2;
      return { protocol, hostPort, guestPort, ...(isPlaced && { bind }) };
    }),
  ];
}

/** The same, as the engine is asked. */
export function publishParams(published: readonly Published[] = []) {
  return {
    publish: published.filter((one): one is PortRequest => !('hostPath' in one)),
    publishSockets: published.filter((one): one is SocketRequest => 'hostPath' in one),
  };
}

export function unpublishParams(names: readonly PublishedName[] = []) {
  return {
    unpublish: names.filter((one): one is PortName => !('hostPath' in one)),
    unpublishSockets: names.flatMap((one) => ('hostPath' in one ? [one.hostPath] : [])),
  };
}
