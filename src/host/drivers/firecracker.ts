import type { ChildProcess } from 'node:child_process';
import { open, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError } from '../../errors.ts';
import { exec } from '../exec.ts';
import { countOomKills } from '../oom-kills.ts';
import { Deadline } from '../patience.ts';
import {
  identifyProcess,
  isAlive,
  killProcess,
  spawnDetached,
  waitForExit,
  waitUntilReaped,
  type ProcessIdentity,
} from '../process.ts';
import type { VmmDriver } from './driver.ts';
import { endedWords, FirecrackerApi, isNobodyThere } from './firecracker/api.ts';
import { makeJail, publishSocket, takeDiskBack } from './firecracker/chroot.ts';
import {
  commandOf,
  limitsOf,
  requireJail,
  requireProgram,
  seenFrom,
  type Jail,
} from './firecracker/command.ts';
import { makeControlGroups } from './firecracker/control-groups.ts';
import { openFirecrackerControl, type ControlOptions } from './firecracker/control.ts';
import { findFirecracker } from './firecracker/find.ts';
import type { JailerWish } from './firecracker/jail.ts';
import { checkMachine, planMachine, type FirecrackerSpec } from './firecracker/machine.ts';
import { networkSocket } from './firecracker/namespace.ts';
import { makeNetworkEtc } from './firecracker/network-program.ts';
import { removeJailOf } from './firecracker/remove-jail.ts';
import { joinNetwork, rootlessCard } from './firecracker/rootless-network.ts';
import { explainStart, startError } from './firecracker/start-errors.ts';
import { parseFirecrackerVersion, versionRefusal, type FirecrackerVersion } from './firecracker/version.ts';
import { openWayIn } from './firecracker/way-in.ts';
import { readOwnRights, vmUser } from './qemu-confinement.ts';
import { vmmEnvironment } from './vmm-environment.ts';
import { keepPreviousLogs, processName, standardErrorPath } from './vmm-process.ts';

/** How long Firecracker may take from its start to an answer on its socket. */
const defaultStartTimeoutMs = 15_000;
const startPollMs = 5;
/** How long one whose socket has closed may take to be gone. */
const exitTimeoutMs = 2_000;

export interface FirecrackerDriver extends VmmDriver {
  start(spec: FirecrackerSpec, signal: AbortSignal): Promise<ProcessIdentity>;
}

export interface FirecrackerOptions extends ControlOptions {
  /** From its start to an answer on its socket; 15 s unless given */
  readonly startTimeoutMs?: number;
  readonly jailer: JailerWish;
}

/** The Firecracker driver; `program` is a name to look up in PATH, or a path. */
export function firecrackerDriver(program: string, options: FirecrackerOptions): FirecrackerDriver {
  return {
    name: 'firecracker',
    start: (spec, signal) => startFirecracker(program, spec, { ...options, signal }),
    find: findFirecracker,
    control: (vmm) => openFirecrackerControl(vmm, options),
  };
}

async function startFirecracker(
  program: string,
  spec: FirecrackerSpec,
  {
    signal,
    startTimeoutMs = defaultStartTimeoutMs,
    answerTimeoutMs,
    jailer: wish,
  }: FirecrackerOptions & { readonly signal: AbortSignal },
): Promise<ProcessIdentity> {
  checkMachine(spec);
  const jailing = requireJail(program, spec, wish);
  await keepPreviousLogs(spec);
  await rm(spec.controlSocket, { force: true });
  if (spec.vsock) await rm(spec.vsock.socket, { force: true });
  if (spec.metricsFile !== undefined) await rm(spec.metricsFile, { force: true });
  if (signal.aborted) throw abortError(signal);

  // Else what is looked for by the words before it is told of as their failure.
  if (!jailing) {
    requireProgram(program);
    const user = vmUser(spec.id, readOwnRights());
    if (spec.disk && user !== undefined) await takeDiskBack(spec.disk.path, user);
    // It makes none of them by itself, or not in every release.
    for (const path of [spec.vmmLog, spec.metricsFile]) if (path !== undefined) await makeFile(path);
  }
  const { user } = spec.network;
  const jail = jailing && {
    ...jailing,
    ...(await limitsOf(spec)),
    paths: await makeJail(exec, spec, jailing),
  };
  const oomKillsBefore = await countOomKills();
  try {
    if (jail) await makeControlGroups(spec.id);
    const child = await spawnDetached(commandOf(program, spec, jail), {
      // Its guest's console is its standard output.
      logFile: standardErrorPath(spec.vmmLog),
      outputFile: spec.consoleLog,
      env: vmmEnvironment(),
      // A jailer closes all descriptors but the first three.
      pulse: user && (jail ? 'input' : 'new'),
    });
    // Inherited by what is to end with it.
    const pulse = (jail ? child.stdin : child.stdio[3]) as Socket | null | undefined;
    child.once('exit', (_code, how) => spec.onExit?.(how ?? undefined));
    child.unref();
    const limits = { startTimeoutMs, answerTimeoutMs };
    return await configure({ program, spec, jail, signal, ...limits, child, pulse, oomKillsBefore });
  } catch (error) {
    // Why it did not start is worth more than what is left of it, which whoever forgets the VM removes.
    if (jail) await removeJailOf(spec).catch(() => undefined);
    throw error;
  }
}

/** Nobody else's: one that is there already is an error. */
async function makeFile(path: string): Promise<void> {
  await (await open(path, 'ax', 0o600)).close();
}

/** Makes a Firecracker that was just started run its guest; ends it when it does not. */
async function configure({
  program,
  spec,
  jail,
  signal,
  ...vmm
}: {
  readonly program: string;
  readonly spec: FirecrackerSpec;
  readonly jail: Jail | undefined;
  readonly signal: AbortSignal;
  readonly startTimeoutMs: number;
  readonly answerTimeoutMs: number | undefined;
  readonly child: ChildProcess;
  readonly oomKillsBefore: number;
  readonly pulse: Socket | null | undefined;
}): Promise<ProcessIdentity> {
  const { user, tap } = spec.network;
  const { pulse } = vmm;
  const identity = identifyProcess(vmm.child.pid!);
  try {
    const api = new FirecrackerApi(spec.controlSocket, vmm.answerTimeoutMs);
    const hasExited = (): boolean => !identity || !isAlive(identity);
    const patience = { signal, hasExited, timeoutMs: vmm.startTimeoutMs };
    if (jail) await waitForSocket(jail, spec, patience);
    const version = await waitForApi(api, spec, patience);
    if (user && pulse && identity) {
      const joined = {
        pulse,
        socket: networkSocket(spec.controlSocket),
        logFile: standardErrorPath(spec.vmmLog),
        isRoots: jail !== undefined,
        etc: process.getuid!() === 0 ? await makeNetworkEtc(spec.vmmLog, { hasNames: !tap }) : undefined,
      };
      if (tap) await openWayIn(exec, joined, { tap, user }, signal);
      else {
        const own = { ...joined, process: identity, tapUser: jail?.user ?? 0 };
        await joinNetwork(exec, own, { network: user, signal });
      }
    }
    const card = tap ?? (user && rootlessCard(spec.id));
    for (const request of planMachine({ ...seenFrom(jail, spec), network: { tap: card } }, version)) {
      await api.send(request, signal);
    }
    const { state } = await api.instance();
    if (state === 'Running' && identity) return identity;
    throw new BangerError('command_failed', `Firecracker was told to start its guest, and says "${state}"`);
  } catch (error) {
    // One that dies closes its socket a moment before it is gone.
    const isAskedInVain = !(error instanceof BangerError) || error.message.startsWith(endedWords);
    const hasEnded =
      !identity || (isAskedInVain ? await waitForExit(identity, exitTimeoutMs) : !isAlive(identity));
    if (!hasEnded) {
      await killProcess(identity);
      throw explainStart(error, spec);
    }
    // By then we have been told how.
    await waitUntilReaped({ pid: vmm.child.pid! });
    const death = { signal: vmm.child.signalCode ?? undefined, oomKillsBefore: vmm.oomKillsBefore };
    throw await startError(program, spec, { cause: error, death });
  } finally {
    pulse?.destroy();
  }
}

interface StartPatience {
  readonly signal: AbortSignal;
  readonly hasExited: () => boolean;
  readonly timeoutMs: number;
}

/** Waits until a jailed Firecracker can be spoken to from outside. */
async function waitForSocket(
  { paths, user }: Jail,
  { controlSocket }: FirecrackerSpec,
  { signal, hasExited, timeoutMs }: StartPatience,
): Promise<void> {
  const deadline = new Deadline(timeoutMs);
  while (!(await publishSocket(paths, { controlSocket, user }))) {
    if (signal.aborted) throw abortError(signal);
    if (hasExited()) throw new BangerError('command_failed', 'Firecracker, or its jailer, ended at once');
    if (deadline.isOver())
      throw new BangerError('timeout', `Firecracker's jailer did not start it within ${timeoutMs / 1000} s`);
    await sleep(startPollMs);
  }
}

/** Waits until Firecracker answers; returns which release it is. */
async function waitForApi(
  api: FirecrackerApi,
  spec: FirecrackerSpec,
  { signal, hasExited, timeoutMs }: StartPatience,
): Promise<FirecrackerVersion> {
  const deadline = new Deadline(timeoutMs);
  for (;;) {
    if (signal.aborted) throw abortError(signal);
    if (hasExited()) throw new BangerError('command_failed', 'Firecracker ended at once');
    try {
      const { id, version } = await api.instance();
      if (id !== processName(spec.id)) {
        throw new BangerError('command_failed', `Another Firecracker answers on "${spec.controlSocket}"`);
      }
      return requireFit(version);
    } catch (error) {
      if (!isNobodyThere(error)) throw error;
    }
    if (deadline.isOver()) {
      throw new BangerError('timeout', `Firecracker did not answer within ${timeoutMs / 1000} s`);
    }
    await sleep(startPollMs);
  }
}

function requireFit(text: string): FirecrackerVersion {
  const version = parseFirecrackerVersion(text);
  const refusal = version ? versionRefusal(version) : `"${text}" is no release of Firecracker that we know`;
  if (version && refusal === undefined) return version;
  throw new BangerError('host_unsupported', `${refusal}; it cannot be used`, {
    hint: 'Install a newer release, or let QEMU run VMs: set driver = "qemu" under [vmm] in the configuration',
  });
}
