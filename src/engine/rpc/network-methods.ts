import * as z from 'zod/mini';
import { method, question } from './method.ts';
import { networkName } from './vm-methods.ts';

/** A network as clients see it. */
export const networkView = z.object({
  name: z.string(),
  /** `user`: the VMM's own; `none`: cut off; `bridge`: behind a bridge of the host */
  kind: z.enum(['user', 'none', 'bridge']),
  /** Whether its guests reach each other */
  isShared: z.boolean(),
  /** CIDR, and the host's own address in it; only behind a bridge */
  subnet: z.optional(z.string()),
  gateway: z.optional(z.string()),
  /** Interface of the host */
  bridge: z.optional(z.string()),
  /** VMs on it */
  vms: z.array(z.object({ name: z.string(), address: z.optional(z.string()) })),
  /** Absent for those that are always there */
  createdAt: z.optional(z.string()),
});
export type NetworkView = z.output<typeof networkView>;

/** Makes a network whose VMs reach each other. Its bridge is there while VMs of it are. */
export const networkCreate = method('network.create', z.object({ name: networkName }), networkView);

/** Those that are always there first. */
export const networkList = question('network.list', z.object({}), z.array(networkView));
export const networkShow = question('network.show', z.object({ name: networkName }), networkView);

/** Refused while VMs are on it, stopped ones too. */
export const networkDelete = method(
  'network.delete',
  z.object({ name: networkName }),
  z.object({ name: z.string() }),
);
