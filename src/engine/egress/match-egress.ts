import { BangerError, errorText } from '../../errors.ts';
import type { FoundReach, Reach, VmmControl } from '../../host/drivers/driver.ts';
import { hasForeignConnection } from '../../host/tcp-connections.ts';
import type { EgressPolicy } from '../../state/egress.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Capability } from '../lifecycle/capabilities.ts';
import { vmmControl } from '../lifecycle/guest-activity.ts';
import type { Operation } from '../operations.ts';
import { tellGuest } from './guest-egress.ts';

/**
 * How far the VMM itself lets a guest reach: what rules allow goes through the proxy, past the VMM's network. Beside a
 * bridge its network is a way in only: it would lead around the bridge's rules.
 */
export function reachOf({ network, egress }: Pick<Vm, 'network' | 'egress'>): Reach {
  return network === 'user' && egress.kind === 'all' ? 'all' : 'none';
}

/** Throws unless a VM's network can hold its guest to a policy. */
export function checkEgress(network: string, policy: EgressPolicy): void {
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
  if (network !== 'user')
    throw new BangerError(
      'host_unsupported',
      `Rules about what may be reached do not hold on network "${network}" yet`,
      {
        hint: 'Use the network that is always there: --network user',
      },
    );
  const udp = policy.rules.find(({ protocol }) => protocol === 'udp');
  if (udp)
    throw new BangerError(
      'host_unsupported',
      `The rule "${udp.text}" cannot hold: on network "user" only TCP passes`,
      {
        hint: 'Leave it out: names are looked up on the host, so that no rule about DNS is needed',
      },
    );
}

/** A VM's way out: the proxy that holds it to its rules, and its guest told of it. */
export const egress: Capability = {
  name: 'egress',
  checkRequest(_context, { network, egress: policy }) {
    checkEgress(network, policy);
    return Promise.resolve();
  },
  async afterStart(context, vm, operation) {
    context.egress.drop(vm.id);
    if (vm.egress.kind === 'all' || vm.network === 'none') return;
    await openWay(context, vm, operation);
    await tellGuest(
      await context.guest(vm, operation.signal, { isWatching: true }),
      vm.egress,
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
  if (!context.guests.activity(vm.id).isBusy && !hasForeignConnection(ports)) return;
  throw new BangerError(
    'busy',
    `VM "${vm.name}" is in use, and to go between "all" and rules ends every connection to it, and what runs over them`,
    { hint: 'Wait until programs and sessions in it have ended, or add: --force' },
  );
}

/** Makes a running VM's way out what its row says. Nothing is cut when it is so already. */
export async function matchEgress(context: EngineContext, vm: Vm, operation: Operation): Promise<void> {
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
  if (isOther && vm.state === 'paused')
    throw new BangerError('invalid_state', `VM "${vm.name}" is paused, and its guest has to be told`, {
      hint: `Let it go on with: banger vm resume ${vm.name}`,
    });
  if (isOther) {
    if (wanted === 'all') await context.egress.shut(vm.id);
    await control.setReach(wanted);
    // They lead nowhere any more, which they would find out one by one.
    context.guests.drop(vm.id);
  }
  await openWay(context, vm, operation);
  if (isOther) await tellGuest(await context.guest(vm, operation.signal), vm.egress, operation.signal);
}

/** Gives a VM that was running before this engine its way out again, and finishes a change that was cut short. */
export async function adoptEgress(context: EngineContext, vm: Vm): Promise<void> {
  const control = await vmmControl(context, vm);
  const found = await findReach(context, vm, control);
  const wanted = reachOf(vm);
  if (found?.canChange && found.reach !== wanted) await control.setReach(wanted);
  // Not waited for: a guest that hangs keeps nobody from its VM.
  void context.egress
    .match(vm)
    .catch((error: unknown) =>
      context.log('warn', `egress: the guest's way out is not there: ${errorText(error)}`, { vm: vm.id }),
    );
}
