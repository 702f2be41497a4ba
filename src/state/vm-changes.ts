import type { EgressPolicy } from './egress.ts';
import type { PublishedPort } from './ports.ts';
import type { PublishedSocket } from './sockets.ts';
import type { Labels, VmFileSync } from './vms.ts';

/** What can be changed about a VM that exists; what is absent stays, and `null` takes away. */
export interface VmChanges {
  readonly name?: string;
  readonly cpus?: number;
  readonly memoryMib?: number;
  readonly diskBytes?: number;
  readonly labels?: Labels;
  readonly ttlMs?: number | null;
  readonly idleStopMs?: number | null;
  readonly ports?: readonly PublishedPort[];
  readonly sockets?: readonly PublishedSocket[];
  readonly fileSync?: readonly VmFileSync[];
  readonly egress?: EgressPolicy;
  readonly publishesAll?: boolean;
}
