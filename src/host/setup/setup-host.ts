import { BangerError } from '../../errors.ts';
import { exec as realExec, type Exec } from '../exec.ts';
import { findHostResolver, type HostResolver } from '../name-resolution.ts';
import { readRoutes } from '../network/routes.ts';
import { removeHostNetwork } from '../network/apply.ts';
import { findFirewallTrouble, type FirewallTrouble } from '../network/firewalls.ts';
import { findLeftovers, removeLeftovers, type Leftover } from '../network/leftovers.ts';
import { isNamedLikeOurs, readLinks, surplusTaps } from '../network/links.ts';
import { bridgePrefix, networkOwner, type HostNetwork, type NetworkOwner } from '../network/plan.ts';
import { applySetup, enableCommands, findStaleNames, removeSetup } from './apply-setup.ts';
import { planDirectoryMark } from './config-directory.ts';
import { listHostSetups, readHostSetup } from './host-setup.ts';
import { findSetupUser, requireRoot, systemPlaces, type SetupPlaces, type SetupUser } from './places.ts';
import { planSetup, type PlannedFile, type SetupRequest } from './plan-setup.ts';
import { readSetupState, usedAddresses, type SetupState } from './setup-state.ts';

/** What the verbs of `host` work with. */
export interface HostInput {
  /** Where we remember what was switched on, see `Forwarding` */
  readonly markers: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly exec?: Exec;
  readonly places?: SetupPlaces;
}

export interface SetupReport {
  readonly user: string;
  readonly networks: readonly { readonly name: string; readonly subnet: string; readonly taps: number }[];
  readonly files: readonly PlannedFile[];
  /** Command lines, in the order in which they are run; `nft` reads the file of rules, `ip` that of links */
  readonly commands: readonly string[];
  /** False when it was only planned */
  readonly done: boolean;
  /** False: nothing brings it back after a reboot */
  readonly survivesReboot: boolean;
  /** How programs of the host find VMs by name */
  readonly names: {
    readonly resolver: HostResolver;
    /** What people have to do themselves, where it is not known how it is done */
    readonly advice?: string;
    /** Why whoever answers for names could not be told */
    readonly problem?: string;
  };
  /** What of others keeps VMs from the world, though all is done */
  readonly firewall?: FirewallTrouble;
}

/** Sets up the host for a user, or says what that would be. */
export async function setupHost(
  request: Omit<SetupRequest, 'user'> & { readonly user?: string; readonly dryRun: boolean },
  input: HostInput,
): Promise<SetupReport> {
  const { exec, places } = toolsOf(input);
  if (!request.dryRun) requireRoot('setup');
  const user = await findSetupUser(exec, { verb: 'setup', name: request.user }, input.env);
  const before = readHostSetup(user.uid, places.configDirectory);
  const others = listHostSetups(places.configDirectory).filter(({ owner }) => owner.uid !== user.uid);
  const own = networkOwner(`setup for user ${user.uid}`, user.uid);
  const routes = (await readRoutes(exec)).filter(
    ({ device }) => !device.startsWith(`${bridgePrefix}${own.tag}-`),
  );
  const resolver = await findHostResolver(exec, places.systemRoot);
  const plan = planSetup({ ...request, user }, { before, others, routes, places, resolver });
  const surplus = await findSurplusTaps(plan.network, exec);
  const stale = await findStaleNames(user.uid, plan.names.files, places);
  const marks = await planDirectoryMark(places.configDirectory);
  const problem = request.dryRun ? undefined : await applySetup(plan, { exec, places });
  const [rules, links] = plan.files;
  return {
    user: user.name,
    networks: plan.setup.networks.map(({ name, subnet, addresses }) => ({
      name,
      subnet,
      taps: addresses.length,
    })),
    files: [...marks, ...plan.files, ...plan.names.files.map(({ path, text }) => ({ path, content: text }))],
    commands: [
      ['nft', '-f', rules!.path],
      ['ip', '-batch', links!.path],
      ...surplus.map((name) => ['ip', 'link', 'delete', 'dev', name]),
      ['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1'],
      ...enableCommands(plan.unit, places),
      ...stale.flatMap(({ path, forget }) => [['rm', path], forget]),
      ...plan.names.apply,
    ].map((argv) => argv.join(' ')),
    done: !request.dryRun,
    survivesReboot: places.hasSystemd,
    names: { resolver, advice: plan.names.advice, problem },
    firewall: request.dryRun ? undefined : await findFirewallTrouble(exec),
  };
}

/** Taps that there are more of than were asked for. Throws `busy` when a VM runs on one. */
async function findSurplusTaps(network: HostNetwork, exec: Exec): Promise<string[]> {
  const surplus = surplusTaps(network, await readLinks(exec));
  const used = surplus.filter(({ hasCarrier }) => hasCarrier).map(({ name }) => name);
  if (used.length === 0) return surplus.map(({ name }) => name);
  throw new BangerError('busy', `With so few taps those of VMs that run would go: ${used.join(', ')}`, {
    hint: 'Stop VMs that you do not need, or leave out --taps, which keeps as many as there are',
  });
}

export interface TeardownReport {
  readonly user: string;
  /** Files */
  readonly removed: readonly string[];
  /** Interfaces that were there, also of a setup that was cut short before it wrote a file */
  readonly links: readonly string[];
  /** Addresses of VMs that ran on it, whose network is gone */
  readonly cutOff: readonly string[];
}

/** What of a user's setup there is; undefined when there is none. */
export async function hostStatus(
  request: { readonly user?: string },
  input: HostInput,
): Promise<SetupState | undefined> {
  const tools = toolsOf(input);
  const wanted = request.user ?? input.env['SUDO_UID'];
  const uid =
    wanted === undefined
      ? process.getuid!()
      : (
          await findSetupUser(
            tools.exec,
            { verb: 'status', name: wanted, known: usersOf(tools.places) },
            input.env,
          )
        ).uid;
  return readSetupState(uid, tools);
}

function usersOf({ configDirectory }: SetupPlaces): SetupUser[] {
  return listHostSetups(configDirectory).map(({ user, owner }) => ({ uid: owner.uid, name: user }));
}

/** Removes a user's setup, and returns the files that went, and the addresses of VMs that ran on it. */
export async function teardownHost(
  request: { readonly user?: string },
  input: HostInput,
): Promise<TeardownReport> {
  requireRoot('teardown');
  const tools = toolsOf(input);
  const wish = { verb: 'teardown', name: request.user, known: usersOf(tools.places) } as const;
  const user = await findSetupUser(tools.exec, wish, input.env);
  const owner = networkOwner(`setup for user ${user.uid}`, user.uid);
  const state = await readSetupState(user.uid, tools);
  const links = (await readLinks(tools.exec)).map(({ name }) => name);
  const removed = await removeSetup(owner, tools);
  const left = (await readLinks(tools.exec)).map(({ name }) => name);
  const gone = links.filter((name) => isNamedLikeOurs(owner, name) && !left.includes(name));
  return { user: user.name, removed, links: gone, cutOff: state ? usedAddresses(state) : [] };
}

/**
 * Removes bridges, taps and rules of ours that are not known here, neither to this state directory nor by a setup, and
 * without running VMs. Returns what went, or, by `dryRun`, what would.
 */
export async function pruneHost(
  request: { readonly stateDirectory: string; readonly dryRun: boolean },
  input: HostInput,
): Promise<readonly Leftover[]> {
  requireRoot('prune');
  const { exec, places } = toolsOf(input);
  const known = (): NetworkOwner[] => knownOwners(request.stateDirectory, places.configDirectory);
  if (request.dryRun) return findLeftovers(exec, known());
  return removeLeftovers(exec, known, (owner) =>
    removeHostNetwork(owner, { exec, forwarding: places.forwarding }),
  );
}

/** Whose bridges are accounted for: a state directory's, whose engine sees to them, and those of setups. */
export function knownOwners(stateDirectory: string, setups?: string): NetworkOwner[] {
  return [
    networkOwner(stateDirectory, process.getuid!()),
    ...listHostSetups(setups).map(({ owner }) => owner),
  ];
}

function toolsOf({ exec = realExec, places, markers }: HostInput) {
  return {
    exec,
    places: places ?? systemPlaces(markers),
  };
}
