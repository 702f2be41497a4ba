import type { Exec } from '../exec.ts';
import { bridgePrefix } from './plan.ts';

/** A firewall of somebody else that lets no VM out, and how it comes to. */
export interface FirewallTrouble {
  readonly evidence: string;
  readonly fix: string;
}

/** A chain in the path of forwarded packets that refuses what no rule allows: ours cannot overrule it. */
export async function findFirewallTrouble(exec: Exec): Promise<FirewallTrouble | undefined> {
  const { stdout } = await exec(['nft', 'list', 'chains']);
  const refusing = refusingChains(stdout.toString('utf8'));
  if (refusing.length === 0) return undefined;
  const isDocker = refusing.some((name) => name.startsWith('ip filter '));
  return {
    evidence: `forwarded packets are refused unless a rule allows them, by ${refusing.join(', ')}`,
    fix: isDocker
      ? `Allow those of VMs: sudo iptables -I FORWARD -i '${bridgePrefix}+' -j ACCEPT; sudo iptables -I FORWARD -o '${bridgePrefix}+' -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`
      : `Allow in that firewall what comes from interfaces "${bridgePrefix}*", and the answers to it`,
  };
}

/** Parses `nft list chains`: `FAMILY TABLE CHAIN` of those that refuse by default. */
export function refusingChains(text: string): string[] {
  const found: string[] = [];
  let [table, chain] = ['', ''];
  for (const line of text.split('\n')) {
    table = /^table (\S+ \S+) \{/.exec(line)?.[1] ?? table;
    chain = /^\s+chain (\S+) \{/.exec(line)?.[1] ?? chain;
    const isForRouted = /^(?:ip|inet) /.test(table);
    if (isForRouted && /hook forward .*policy drop/.test(line)) found.push(`${table} ${chain}`);
  }
  return found;
}
