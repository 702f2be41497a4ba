import { readdirSync, readFileSync } from 'node:fs';
import { errnoOf } from '../../errors.ts';
import { resolverPort, type NetworkOwner } from '../network/plan.ts';

/** A network that `banger host setup` has made for a user. */
export interface PreparedNetwork {
  readonly name: string;
  readonly number: number;
  readonly subnet: string;
  readonly isShared: boolean;
  /** Those that there are taps for */
  readonly addresses: readonly string[];
}

/** What `banger host setup` has made for a user, as the file says that it wrote. Only root writes it. */
export interface HostSetup {
  readonly version: 1;
  readonly user: string;
  readonly owner: NetworkOwner;
  readonly networks: readonly PreparedNetwork[];
  /** Absent: made by a banger of which none of the VMs on these networks could be held to rules */
  readonly hasHeldTaps?: boolean;
  /** Port of the loopback at which name servers were told that this user's engine answers; absent: the usual one */
  readonly namePort?: number;
}

/** Where an engine answers for names of VMs on the loopback, unless the configuration of its user says otherwise. */
export function namePortOf({ namePort }: HostSetup): number {
  return namePort ?? resolverPort;
}

/** The first port for that which no setup has: two engines cannot answer at one. */
export function freeNamePort(setups: readonly HostSetup[]): number {
  const taken = new Set(setups.map(namePortOf));
  let port = resolverPort;
  while (taken.has(port)) port++;
  return port;
}

export function hostSetupFile(uid: number, directory = '/etc/banger'): string {
  return `${directory}/network-${uid}.json`;
}

/** Every setup of this host, whoever it is for. */
export function listHostSetups(directory = '/etc/banger'): HostSetup[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
  const uids = names.flatMap((name) => /^network-(\d+)\.json$/.exec(name)?.slice(1) ?? []);
  return uids.flatMap((uid) => readHostSetup(Number(uid), directory) ?? []);
}

/** Undefined when the host was not set up for this user. */
export function readHostSetup(uid: number, directory?: string): HostSetup | undefined {
  try {
    return JSON.parse(readFileSync(hostSetupFile(uid, directory), 'utf8')) as HostSetup;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
