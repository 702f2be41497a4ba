import { readFile } from 'node:fs/promises';
import type { Exec } from '../exec.ts';
import { findHostResolver, isToldOfNames, type HostResolver } from '../name-resolution.ts';
import { readLinks, type Link } from '../network/links.ts';
import { tapsOf } from '../network/plan.ts';
import { findMissingRules } from '../network/present-rules.ts';
import { mayAdministerNetwork } from '../network/rights.ts';
import { readHostSetup, type HostSetup } from './host-setup.ts';
import type { SetupPlaces } from './places.ts';
import { bridgesOf, hostNetworkOf, planNames, setupFiles } from './plan-setup.ts';
import { isThere } from './public-files.ts';

export interface SetupTools {
  readonly exec: Exec;
  readonly places: SetupPlaces;
}

/** What of a setup there is now. */
export interface SetupState {
  readonly setup: HostSetup;
  /** Names of taps that are there, and of those that a VMM has opened */
  readonly taps: readonly string[];
  readonly missingTaps: readonly string[];
  readonly missingBridges: readonly string[];
  /** Tables of rules that are not there, or not whole; absent: we may not ask */
  readonly missingRules?: readonly string[];
  readonly usedTaps: readonly string[];
  readonly isForwarding: boolean;
  /** Files that are missing */
  readonly missingFiles: readonly string[];
  /** Who answers for names on this host, and whether they were told to ask for those of VMs; absent: nobody can be told */
  readonly names: { readonly resolver: HostResolver; readonly isTold?: boolean };
}

/** Undefined when the host was not set up for this user. */
export async function readSetupState(
  uid: number,
  { exec, places }: SetupTools,
): Promise<SetupState | undefined> {
  const setup = readHostSetup(uid, places.configDirectory);
  if (!setup) return undefined;
  const links = new Map((await readLinks(exec)).map((link): [string, Link] => [link.name, link]));
  const taps = hostNetworkOf(setup).bridges.flatMap((bridge) =>
    bridge.guests.flatMap((address) => tapsOf(setup.owner, bridge, address)),
  );
  const { unit, ...files } = setupFiles(uid, places);
  const root = places.systemRoot;
  const resolver = await findHostResolver(exec, root);
  const names = planNames(setup, resolver, root);
  const wanted = [
    ...Object.values(files),
    ...(places.hasSystemd ? [unit] : []),
    ...names.files.map(({ path }) => path),
  ];
  const isMissing = await Promise.all(wanted.map(async (path) => !(await isThere(path))));
  return {
    setup,
    taps: taps.filter((name) => links.has(name)),
    missingTaps: taps.filter((name) => !links.has(name)),
    missingBridges: bridgesOf(setup).filter((name) => !links.has(name)),
    missingRules: mayAdministerNetwork() ? await findMissingRules(exec, hostNetworkOf(setup)) : undefined,
    usedTaps: taps.filter((name) => links.get(name)?.hasCarrier),
    isForwarding:
      (await readFile(places.forwarding.file ?? '/proc/sys/net/ipv4/ip_forward', 'utf8')).trim() === '1',
    missingFiles: wanted.filter((_, index) => isMissing[index]),
    names: { resolver, isTold: await isToldOfNames(exec, { resolver, uid, links: bridgesOf(setup), root }) },
  };
}

/** Addresses of VMs that run on it. */
export function usedAddresses({ setup, usedTaps }: SetupState): string[] {
  return hostNetworkOf(setup).bridges.flatMap((bridge) =>
    bridge.guests.filter((address) =>
      tapsOf(setup.owner, bridge, address).some((tap) => usedTaps.includes(tap)),
    ),
  );
}

/** What is wrong with it, a sentence each. */
export function setupTroubles(state: SetupState): string[] {
  const { missingBridges, missingTaps, missingRules = [], missingFiles, isForwarding, names } = state;
  return [
    ...(missingBridges.length > 0 ? [`Missing bridges: ${missingBridges.join(', ')}`] : []),
    ...(missingTaps.length > 0 ? [`Missing taps: ${missingTaps.join(', ')}`] : []),
    ...missingRules.map((table) => `Missing rules, without which VMs reach nothing or too much: ${table}`),
    ...missingFiles.map((path) => `Missing file: ${path}`),
    ...(names.isTold === false && names.resolver === 'systemd-resolved'
      ? ['systemd-resolved does not ask banger for NAME.vm']
      : []),
    ...(isForwarding ? [] : ['Packets are not forwarded (net.ipv4.ip_forward is 0)']),
  ];
}
