import { parsePortText, type PortRequest } from '../engine/rpc/port-text.ts';
import { orUsage } from './parse.ts';

export type { PortRequest };

/** Collects `--publish`, written as for docker: `80`, `8080:80`, `0.0.0.0:8080:80`, `53:53/udp`. */
export function collectPort(text: string, collected: readonly PortRequest[] = []): PortRequest[] {
  return [...collected, orUsage(() => parsePortText(text))];
}

/** A port of the host, as `--unpublish` names it: `8080`, `53/udp`, or all that was published: `127.0.0.1:8080:80`. */
export interface PortName {
  readonly protocol: 'tcp' | 'udp';
  readonly hostPort: number;
}

export function collectPortName(text: string, collected: readonly PortName[] = []): PortName[] {
  const { protocol, hostPort, guestPort } = orUsage(() => parsePortText(text));
  return [...collected, { protocol, hostPort: hostPort ?? guestPort }];
}
