import { accessSync, constants } from 'node:fs';
import { errnoOf, errorText } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { findLeftovers } from '../network/leftovers.ts';
import { bridgePrefix, type NetworkOwner } from '../network/plan.ts';
import { shellQuote } from '../shell-quote.ts';
import type { HostSetup } from '../setup/host-setup.ts';
import { pass, skip, warn, type CheckResult, type Subject } from './check.ts';

export interface BridgesInput {
  readonly exec: Exec;
  /** Whether we may make interfaces and rules */
  readonly mayAdminister: boolean;
  /** What was made for our user; undefined: nothing */
  readonly setup: HostSetup | undefined;
  /** Whose bridges are accounted for */
  readonly known: () => readonly Pick<NetworkOwner, 'tag'>[];
  /** `BANGER_HOME`, where it says what is ours: sudo does not pass it on */
  readonly home?: string;
  readonly tunDevice?: string;
}

const bridges: Subject = { id: 'bridges', title: 'Bridges' };
const firewall: Subject = { id: 'firewall', title: 'Other firewalls' };

const leftovers: Subject = { id: 'leftovers', title: 'Leftovers' };

const mayNotAsk = 'only those who make bridges may ask for rules';
const notAsked = [skip(firewall, mayNotAsk), skip(leftovers, mayNotAsk)];

/** Whether VMs can be behind a bridge. They need not be: the network "user" takes no rights. */
export async function checkBridges(input: BridgesInput): Promise<CheckResult[]> {
  const { mayAdminister, setup } = input;
  if (!mayAdminister && !setup) {
    const reason =
      'not for this user, without root; VMs use the network "user" (for more: sudo banger host setup)';
    return [skip(bridges, reason), ...notAsked];
  }
  const trouble = tunTrouble(input.tunDevice ?? '/dev/net/tun');
  if (trouble) return [trouble, ...notAsked];
  if (!mayAdminister) {
    const names = setup!.networks.map(({ name }) => `"${name}"`).join(', ');
    return [pass(bridges, `set up for this user: ${names} (see: banger host status)`), ...notAsked];
  }
  for (const program of ['ip', 'nft'] as const) {
    try {
      await input.exec([program, '-V']);
    } catch (error) {
      const name = program === 'ip' ? 'iproute2' : 'nftables';
      return [
        warn(
          bridges,
          errorText(error),
          `Install it with: sudo apt-get install ${name} (or what your distribution calls it)`,
        ),
        ...notAsked,
      ];
    }
  }
  return [
    pass(bridges, 'made when VMs need them'),
    await checkFirewalls(input.exec),
    await checkLeftovers(input),
  ];
}

/** What is left of a banger that nobody uses: it takes names and addresses, and keeps forwarding on. */
async function checkLeftovers({ exec, known, home }: BridgesInput): Promise<CheckResult> {
  const found = await findLeftovers(exec, known());
  if (found.length === 0) return pass(leftovers, 'no bridges or rules of a banger that is not known here');
  const words = found.flatMap(({ links, tables }) => [...links, ...tables.map((table) => `table ${table}`)]);
  const shown = words.slice(0, maxShown).join(', ');
  const more = words.length > maxShown ? ` and ${words.length - maxShown} more` : '';
  return warn(
    leftovers,
    `of a banger that is not known here, and without running VMs: ${shown}${more}`,
    `Remove them with: sudo ${home ? `${shellQuote([`BANGER_HOME=${home}`])} ` : ''}banger host prune`,
  );
}

const maxShown = 6;

function tunTrouble(device: string): CheckResult | undefined {
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    if (errnoOf(error) === 'EACCES') {
      return warn(
        bridges,
        `${device} cannot be opened by this user`,
        `Let users open it: sudo chmod 666 ${device}`,
      );
    }
    return warn(bridges, `there is no ${device}`, 'Load the module that makes it: sudo modprobe tun');
  }
}

/** A chain in the path of forwarded packets that refuses what no rule allows: ours cannot overrule it. */
export async function checkFirewalls(exec: Exec): Promise<CheckResult> {
  const { stdout } = await exec(['nft', 'list', 'chains']);
  const refusing = refusingChains(stdout.toString('utf8'));
  if (refusing.length === 0) return pass(firewall, 'none that keeps VMs behind a bridge from the world');
  const docker = refusing.some((name) => name.startsWith('ip filter '));
  return warn(
    firewall,
    `forwarded packets are refused unless a rule allows them, by ${refusing.join(', ')}`,
    docker
      ? `Allow those of VMs: sudo iptables -I FORWARD -i '${bridgePrefix}+' -j ACCEPT; sudo iptables -I FORWARD -o '${bridgePrefix}+' -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`
      : `Allow in that firewall what comes from interfaces "${bridgePrefix}*", and the answers to it`,
  );
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
