import { readFile, rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortError, BangerError } from '../../errors.ts';
import { exec } from '../exec.ts';
import { Deadline } from '../patience.ts';
import {
  identifyProcess,
  isAlive,
  killProcess,
  spawnDetached,
  waitForExit,
  type ProcessIdentity,
} from '../process.ts';
import type { VmmDriver } from './driver.ts';
import { endedWords, FirecrackerApi, isNobodyThere } from './firecracker/api.ts';
import { openFirecrackerControl } from './firecracker/control.ts';
import { findFirecracker } from './firecracker/find.ts';
import { checkMachine, planMachine, type FirecrackerSpec } from './firecracker/machine.ts';
import { namespaceWords, networkSocket } from './firecracker/namespace.ts';
import { joinNetwork, rootlessCard } from './firecracker/rootless-network.ts';
import { parseFirecrackerVersion, versionRefusal, type FirecrackerVersion } from './firecracker/version.ts';
import { vmmEnvironment } from './vmm-environment.ts';
import { keepPrevious, memoryError, processName } from './vmm-process.ts';

/** How long Firecracker may take from its start to an answer on its socket. */
const startTimeoutMs = 15_000;
const startPollMs = 5;
/** How long one whose socket has closed may take to be gone. */
const exitTimeoutMs = 2_000;

export interface FirecrackerDriver extends VmmDriver {
  start(spec: FirecrackerSpec, signal: AbortSignal): Promise<ProcessIdentity>;
}

/** The Firecracker driver; `program` is a name to look up in PATH, or a path. */
export function firecrackerDriver(program: string, answerTimeoutMs?: number): FirecrackerDriver {
  return {
    name: 'firecracker',
    start: (spec, signal) => startFirecracker(program, spec, { signal, answerTimeoutMs }),
    find: findFirecracker,
    control: (vmm) => openFirecrackerControl(vmm, answerTimeoutMs),
  };
}

/** Firecracker's command line for a VM. Everything about its guest is asked for on its socket. */
export function firecrackerArguments(spec: FirecrackerSpec): string[] {
  return [
    '--id',
    processName(spec.id),
    '--api-sock',
    spec.controlSocket,
    '--log-path',
    spec.vmmLog,
    '--level',
    'Info',
  ];
}

async function startFirecracker(
  program: string,
  spec: FirecrackerSpec,
  { signal, answerTimeoutMs }: { readonly signal: AbortSignal; readonly answerTimeoutMs?: number },
): Promise<ProcessIdentity> {
  checkMachine(spec);
  await keepPrevious(spec.consoleLog);
  await keepPrevious(spec.vmmLog);
  await rm(spec.controlSocket, { force: true });
  if (spec.vsock) await rm(spec.vsock.socket, { force: true });
  if (signal.aborted) throw abortError(signal);

  const { user } = spec.network;
  const argv = [program, ...firecrackerArguments(spec)] as const;
  const child = await spawnDetached(user ? [...namespaceWords, ...argv] : argv, {
    // Its log has to exist, and its guest's console is its standard output.
    logFile: spec.vmmLog,
    outputFile: spec.consoleLog,
    env: vmmEnvironment(),
    pulse: user && 'new',
  });
  // Inherited by what is to end with it.
  const pulse = child.stdio[3] as Socket | null | undefined;
  child.once('exit', (_code, how) => spec.onExit?.(how ?? undefined));
  child.unref();
  const identity = identifyProcess(child.pid!);
  try {
    const api = new FirecrackerApi(spec.controlSocket, answerTimeoutMs);
    const hasExited = (): boolean => !identity || !isAlive(identity);
    const version = await waitForApi(api, spec, { signal, hasExited });
    if (user && pulse && identity) {
      const vmm = {
        process: identity,
        pulse,
        socket: networkSocket(spec.controlSocket),
        logFile: spec.vmmLog,
      };
      await joinNetwork(exec, vmm, { network: user, signal });
    }
    const tap = user ? rootlessCard(spec.id) : spec.network.tap;
    for (const request of planMachine({ ...spec, network: { tap } }, version)) {
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
    if (identity) await killProcess(identity);
    throw hasEnded ? await startError(program, spec, error) : explainStart(error, spec);
  } finally {
    pulse?.destroy();
  }
}

/** Waits until Firecracker answers; returns which release it is. */
async function waitForApi(
  api: FirecrackerApi,
  spec: FirecrackerSpec,
  { signal, hasExited }: { readonly signal: AbortSignal; readonly hasExited: () => boolean },
): Promise<FirecrackerVersion> {
  const deadline = new Deadline(startTimeoutMs);
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
      throw new BangerError('timeout', `Firecracker did not answer within ${startTimeoutMs / 1000} s`);
    }
    await sleep(startPollMs);
  }
}

function requireFit(text: string): FirecrackerVersion {
  const version = parseFirecrackerVersion(text);
  const refusal = version ? versionRefusal(version) : `"${text}" is no release of Firecracker that we know`;
  if (version && refusal === undefined) return version;
  throw new BangerError('host_unsupported', `${refusal}, and cannot be used`, {
    hint: 'Install a newer release, or let QEMU run VMs: set driver = "qemu" under [vmm] in the configuration',
  });
}

/** What Firecracker's refusals mean for whoever wanted a VM. */
function explainStart(error: unknown, spec: FirecrackerSpec): unknown {
  if (!(error instanceof BangerError) || error.code !== 'command_failed') return error;
  const words = error.message;
  if (/KVM/.test(words) && /os error (?:2|13)\b/.test(words)) {
    return new BangerError('host_unsupported', words, {
      hint: 'See how to get at KVM with: banger doctor',
      cause: error,
    });
  }
  if (/os error 12\b|Cannot allocate memory/.test(words)) return memoryError(spec.memoryMib, words);
  if (/os error 16\b|Resource busy/.test(words)) return new BangerError('busy', words, { cause: error });
  return error;
}

/** For one that has ended: its log says more than the socket that it left. */
async function startError(program: string, spec: FirecrackerSpec, cause: unknown): Promise<unknown> {
  if (cause instanceof BangerError && (cause.code === 'cancelled' || cause.code === 'host_unsupported'))
    return cause;
  const words = (await readFile(spec.vmmLog, 'utf8').catch(() => '')).trim();
  const lastLine = words.split('\n').at(-1) ?? '';
  return new BangerError('command_failed', `Firecracker ended at once: ${lastLine || 'it said nothing'}`, {
    hint: `Check the host with: banger doctor (Firecracker is "${program}")`,
    cause,
  });
}
