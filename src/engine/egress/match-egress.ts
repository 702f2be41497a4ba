import { BangerError, errorText } from '../../errors.ts';
import { userCard, type FoundReach, type VmmControl } from '../../host/drivers/driver.ts';
import { gatewayOf } from '../../host/network/plan.ts';
import { hasForeignConnection } from '../../host/tcp-connections.ts';
import type { EgressPolicy } from '../../state/egress.ts';
import { getNetwork, isBridged } from '../../state/networks.ts';
import { findVm, type Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import { vmmControl } from '../lifecycle/guest-activity.ts';
import { matchForwards } from '../lifecycle/published-ports.ts';
import { withoutLocks } from '../locks.ts';
import type { Operation } from '../operations.ts';
import { applyBridges, bridgeMeans } from '../network/bridges.ts';
import { tellGuest, type GuestPlace } from './guest-egress.ts';
import { isHeld, reachOf } from './reach.ts';

/** Throws unless a VM's network can hold its guest to a policy. */
export function checkEgress(context: EngineContext, network: string, policy: EgressPolicy): void {
  if (policy.kind === 'all') return;
  if (network === 'none') {
    if (policy.rules.length === 0) return;
    throw new BangerError(
      'invalid_argument',
      'A VM without a network reaches nothing, whatever the rules are',
      {
        hint: 'Leave out --egress, or --network none',
      },
    );
  }
  if (isBridged(network)) checkBridged(context, network);
  const udp = policy.rules.find(({ protocol }) => protocol === 'udp');
  if (udp)
    throw new BangerError(
      'host_unsupported',
      `The rule "${udp.text}" cannot hold: where there are rules only TCP passes`,
      {
        hint: 'Leave it out: names are looked up on the host, so that no rule about DNS is needed',
      },
    );
}

function checkBridged(context: EngineContext, network: string): void {
  const means = bridgeMeans(context);
  if (means?.kind !== 'prepared' || means.setup.hasHeldTaps) return;
  throw new BangerError(
    'host_unsupported',
    `Network "${network}" was set up by an older banger, and cannot hold VMs to what they may reach`,
    { hint: 'Have the host set up again, which changes no running VM: sudo banger host setup' },
  );
}

/**
 * Throws when a running VM cannot go from one policy to another. Between "all" and rules it takes other rules of the
 * host, or the other tap, which a VMM opens when it starts.
 */
export function checkLiveEgress(context: EngineContext, vm: Vm, policy: EgressPolicy): void {
  if (!isBridged(vm.network) || isHeld(vm) === isHeld({ egress: policy })) return;
  if (vm.state === 'paused') throw pausedError(vm);
  if (bridgeMeans(context)?.kind !== 'prepared') return;
  throw new BangerError(
    'invalid_state',
    `VM "${vm.name}" runs, and on a network that "host setup" made, only a start takes it from "all" to rules or back`,
    { hint: `Stop it, change it, and start it again: banger vm stop ${vm.name}` },
  );
}

/** A VM's way out: the proxy that holds it to its rules, and its guest told of it. */
export const egress: Capability = {
  name: 'egress',
  checkRequest(context, { network, egress: policy }) {
    checkEgress(context, network, policy);
    return Promise.resolve();
  },
  async afterStart(context, vm, operation) {
    context.egress.drop(vm.id);
    if (vm.egress.kind === 'all' || vm.network === 'none') return;
    await openWay(context, vm, operation);
    await tellGuest(
      await context.guest(vm, operation.signal, { isWatching: true }),
      { policy: vm.egress, place: placeOf(context, vm) },
      operation.signal,
    );
  },
  afterStop(context, vm) {
    context.egress.drop(vm.id);
    return Promise.resolve();
  },
};

/** A guest that cannot be given its way out runs without: it reaches less than it may, and never more. */
async function openWay(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  try {
    await context.egress.match(vm);
  } catch (error) {
    context.log('warn', `egress: the guest's way out is not there: ${errorText(error)}`, { vm: vm.id });
    operation.note?.(`Warning: VM "${vm.name}" reaches nothing for now: ${errorText(error)}`);
  }
}

/** Says whether a change of policy cuts the connections that lead into a running VM, and so what runs over them. */
export async function cutsConnections(context: EngineContext, vm: Vm): Promise<boolean> {
  const found = await findReach(context, vm, await vmmControl(context, vm));
  return found !== undefined && found.reach !== reachOf(vm);
}

/** A VMM that cannot say it keeps what it was started with. One of which nobody knows is not taken for a closed one. */
async function findReach(
  context: EngineContext,
  vm: Vm,
  control: VmmControl,
): Promise<FoundReach | undefined> {
  const found = await control.reach();
  if (found || vm.network !== 'user') return found;
  return { reach: context.handles.get(vm.id)?.reach ?? 'all', canChange: false };
}

/** Throws `busy` when somebody would lose a connection by it. */
export function refuseCutting(context: EngineContext, vm: Vm): void {
  const ports = [context.handles.get(vm.id)?.sshPort ?? 0, ...vm.ports.map(({ hostPort }) => hostPort)];
  if (!context.guests.activity(vm.id).isBusy && !hasForeignConnection({ ports })) return;
  throw new BangerError(
    'busy',
    `VM "${vm.name}" is in use, and to go between "all" and rules ends every connection to it, and what runs over them`,
    { hint: 'Wait until programs and sessions in it have ended, or add: --force' },
  );
}

/** Makes a running VM's way out what its row says. Nothing is cut when it is so already. */
export async function matchEgress(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  await (isBridged(vm.network) ? matchBridged : matchUser)(context, vm, operation);
}

/** What leads into the VM goes on; what led out over the bridge ends, or may begin again. */
async function matchBridged(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  const wasHeld = context.egress.state(vm.id) !== undefined;
  const isOther = wasHeld !== isHeld(vm);
  if (isOther && vm.state === 'paused') throw pausedError(vm);
  if (!isHeld(vm)) await context.egress.shut(vm.id);
  await applyBridges(context);
  await openWay(context, vm, operation);
  if (isOther || needsTelling(context, vm)) await retellGuest(context, vm, operation.signal);
}

function pausedError(vm: Vm): BangerError {
  return new BangerError('invalid_state', `VM "${vm.name}" is paused, and its guest has to be told`, {
    hint: `Let it go on with: banger vm resume ${vm.name}`,
  });
}

/** Whether its guest has not heard of a change: an engine was killed, or it was paused, in between. */
function needsTelling({ handles }: EngineContext, { id, state, egress }: Vm): boolean {
  return state === 'running' && handles.get(id)?.toldEgress !== egress.kind;
}

async function retellGuest(context: EngineContext, vm: Vm, signal: AbortSignal): Promise<void> {
  const told = { policy: vm.egress, place: placeOf(context, vm) };
  await tellGuest(await context.guest(vm, signal), told, signal);
  await context.handles.update(vm.id, { toldEgress: vm.egress.kind });
}

/** Where a guest is, which decides what its way out is called. */
function placeOf(context: EngineContext, { network }: Vm): GuestPlace {
  if (!isBridged(network)) return { gateway: userCard.gateway, nameServer: userCard.dns };
  const { subnet, isShared } = getNetwork(context.db, network);
  return { gateway: gatewayOf(subnet), neighbours: isShared ? subnet : undefined };
}

async function matchUser(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
  const control = await vmmControl(context, vm);
  const found = await findReach(context, vm, control);
  const wanted = reachOf(vm);
  const isOther = found !== undefined && found.reach !== wanted;
  if (isOther && !found.canChange)
    throw new BangerError(
      'invalid_state',
      `VM "${vm.name}" was started by a banger that could not change this`,
      {
        hint: `Stop it, change it, and start it again: banger vm stop ${vm.name}`,
      },
    );
  if (isOther && vm.state === 'paused') throw pausedError(vm);
  if (isOther) {
    if (wanted === 'all') await context.egress.shut(vm.id);
    await control.setReach(wanted);
    // They lead nowhere any more, which they would find out one by one.
    context.guests.drop(vm.id);
    await matchForwards(context, vm);
  }
  await openWay(context, vm, operation);
  if (isOther || needsTelling(context, vm)) await retellGuest(context, vm, operation.signal);
}

/** Gives a VM that was running before this engine its way out again, and finishes a change that was cut short. */
export async function adoptEgress(context: EngineContext, vm: Vm): Promise<void> {
  // Beside a bridge the VMM's own network is a way in only, whatever the policy is.
  if (!isBridged(vm.network)) {
    const control = await vmmControl(context, vm);
    const found = await findReach(context, vm, control);
    const wanted = reachOf(vm);
    if (found?.canChange && found.reach !== wanted) await control.setReach(wanted);
  }
  // Not waited for: a guest that hangs keeps nobody from its VM.
  void finishAdopting(context, vm).catch((error: unknown) =>
    context.log('warn', `egress: the guest's way out is not there: ${errorText(error)}`, { vm: vm.id }),
  );
}

const adoptionTimeoutMs = 60_000;

async function finishAdopting(context: EngineContext, { id }: Vm): Promise<void> {
  const latest = (): Vm | undefined => (context.db.open ? findVm(context.db, id) : undefined);
  const vm = latest();
  if (vm) await context.egress.match(vm);
  // One that was changed meanwhile has been told by whoever changed it.
  const now = latest();
  const isNoted = context.handles.get(id)?.toldEgress !== undefined;
  if (now && isNoted && needsTelling(context, now))
    await withoutLocks(() => retellGuest(context, now, AbortSignal.timeout(adoptionTimeoutMs)));
}
