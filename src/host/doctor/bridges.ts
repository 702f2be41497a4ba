import { accessSync, constants } from 'node:fs';
import { errnoOf, errorText } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { findFirewallTrouble } from '../network/firewalls.ts';
import { findLeftovers } from '../network/leftovers.ts';
import type { NetworkOwner } from '../network/plan.ts';
import { shellQuote } from '../shell-quote.ts';
import { setupTroubles, type SetupState } from '../setup/setup-state.ts';
import { pass, skip, warn, type CheckResult, type Subject } from './check.ts';

export interface BridgesInput {
  readonly exec: Exec;
  /** Whether we may make interfaces and rules */
  readonly mayAdminister: boolean;
  /** What there is of what was made for our user; undefined: nothing was */
  readonly readSetup: () => Promise<SetupState | undefined>;
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
  const { mayAdminister } = input;
  const setup = mayAdminister ? undefined : await input.readSetup();
  if (!mayAdminister && !setup) {
    const reason =
      'not for this user, without root; VMs use the network "user" (for more: sudo banger host setup)';
    return [skip(bridges, reason), ...notAsked];
  }
  const trouble = tunTrouble(input.tunDevice ?? '/dev/net/tun');
  if (trouble) return [trouble, ...notAsked];
  if (!mayAdminister) {
    return [checkSetup(setup!), ...notAsked];
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

function checkSetup(state: SetupState): CheckResult {
  const names = state.setup.networks.map(({ name }) => `"${name}"`).join(', ');
  const troubles = setupTroubles(state);
  if (troubles.length > 0) {
    return warn(
      bridges,
      `set up for this user: ${names}, and not whole: ${troubles.join('; ')}`,
      'Make it whole with: sudo banger host setup',
    );
  }
  return pass(bridges, `set up for this user: ${names} (with its rules: sudo banger host status)`);
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

async function checkFirewalls(exec: Exec): Promise<CheckResult> {
  const trouble = await findFirewallTrouble(exec);
  if (!trouble) return pass(firewall, 'none that keeps VMs behind a bridge from the world');
  return warn(firewall, trouble.evidence, trouble.fix);
}
