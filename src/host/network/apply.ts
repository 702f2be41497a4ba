import { readFile } from 'node:fs/promises';
import type { Exec } from '../exec.ts';
import { ensureForwarding, releaseForwarding, type Forwarding } from './forwarding.ts';
import {
  isNamedLikeOurs,
  planBridges,
  planSurplusBridges,
  planTaps,
  readLinks,
  runIpBatch,
} from './links.ts';
import type { HostNetwork, NetworkOwner } from './plan.ts';
import { clearRuleset, ruleset } from './ruleset.ts';

export interface NetworkTools {
  readonly exec: Exec;
  readonly forwarding: Forwarding;
  /** Called after each stage: bridges, rules, taps, forwarding */
  readonly onStage?: (stage: string) => Promise<void>;
}

/**
 * Makes the host's network what it is to be: makes what is missing, takes away what is too much, and leaves the rest,
 * above all what is not ours. Doing it again changes nothing, and one that was cut short is finished by the next.
 *
 * Rules come before the taps that they are for. Forwarding comes last, and goes first.
 */
export async function applyHostNetwork(network: HostNetwork, tools: NetworkTools): Promise<void> {
  if (network.bridges.length === 0) return removeHostNetwork(network.owner, tools);
  const { exec, forwarding } = tools;
  const stage = tools.onStage ?? (() => Promise.resolve());
  const links = await readLinks(exec);
  await runIpBatch(exec, planBridges(network, links));
  await stage('bridges');
  await exec(['nft', '-f', '-'], { input: ruleset(network) });
  await stage('rules');
  await runIpBatch(exec, [...planTaps(network, links), ...planSurplusBridges(network, links)]);
  await stage('taps');
  await ensureForwarding(forwarding);
  await stage('forwarding');
}

/** Takes away everything of an owner's. Bridges go last: while one is there, there may be more to remove. */
export async function removeHostNetwork(owner: NetworkOwner, tools: NetworkTools): Promise<void> {
  const { exec, forwarding } = tools;
  const stage = tools.onStage ?? (() => Promise.resolve());
  const nothing = { owner, bridges: [] };
  const links = await readLinks(exec);
  await runIpBatch(exec, planTaps(nothing, links));
  await stage('taps removed');
  await exec(['nft', '-f', '-'], { input: clearRuleset(owner) });
  await stage('rules removed');
  const others = links.filter(({ name }) => !isNamedLikeOurs(owner, name));
  await releaseForwarding(forwarding, others);
  await stage('forwarding removed');
  await runIpBatch(exec, planSurplusBridges(nothing, links));
}

/** True when interfaces named as an owner's are there. Cheap: an engine without bridges starts no program to know. */
export async function hasLinks(owner: NetworkOwner): Promise<boolean> {
  const table = await readFile('/proc/net/dev', 'utf8').catch(() => '');
  return table.split('\n').some((line) => isNamedLikeOurs(owner, line.trim().split(':')[0]!));
}
