import { existsSync } from 'node:fs';
import { stat, truncate } from 'node:fs/promises';
import { connect } from 'node:net';
import { BangerError } from '../../../errors.ts';
import { exec } from '../../exec.ts';
import type { GuestActivity, GuestEnd, RunningVmm, VmmControl } from '../driver.ts';
import { noNetworkError, openVmmLog } from '../vmm-process.ts';
import { FirecrackerApi, type InstanceInfo } from './api.ts';
import { isJailed } from './chroot.ts';
import { raiseFileLimit } from './file-limit.ts';
import { endHaltedGuest, hasHalted } from './halted-guest.ts';
import { insidePaths } from './jail.ts';
import { networkSocket } from './namespace.ts';
import {
  addForward,
  changeReach,
  isJoined,
  listForwards,
  readReach,
  removeForward,
} from './rootless-network.ts';
import { rootDriveId } from './machine.ts';
import { watchRoom, type RoomOptions } from './room-watch.ts';

const activities: Readonly<Record<InstanceInfo['state'], GuestActivity>> = {
  Running: 'running',
  Paused: 'paused',
  'Not started': 'other',
};

export interface ControlOptions extends Pick<RoomOptions, 'freeBytes'> {
  readonly answerTimeoutMs?: number;
}

/**
 * The control of a Firecracker that runs. Any number of clients may have one.
 *
 * Firecracker tells of nothing by itself: a connection that stays open closes when it ends, and why the guest ended
 * is read from what it has left.
 */
export async function openFirecrackerControl(
  vmm: RunningVmm,
  { answerTimeoutMs, freeBytes }: ControlOptions = {},
): Promise<VmmControl> {
  const api = new FirecrackerApi(vmm.controlSocket, answerTimeoutMs);
  const pulse = await holdConnection(vmm.controlSocket);
  const stopWatching = endHaltedGuest(vmm);
  const network = networkSocket(vmm.controlSocket);
  let hasEnded = false;
  void pulse.closed.then(() => (hasEnded = true));
  /** What is beside a Firecracker goes with it, and is no answer any more. */
  const hasNetwork = (): boolean => {
    if (hasEnded) throw new BangerError('command_failed', 'Firecracker has ended, and its network with it');
    return existsSync(network);
  };
  const ownNamespace = async () =>
    hasNetwork() && isJoined(vmm.process, network)
      ? { process: vmm.process, isRoots: await isJailed(vmm.controlSocket) }
      : undefined;
  const activityListeners = new Set<() => void>();
  const setState = async (state: 'Paused' | 'Resumed'): Promise<void> => {
    const wanted = state === 'Paused' ? 'Paused' : 'Running';
    if ((await api.instance()).state === wanted) return;
    await api.send({ method: 'PATCH', path: '/vm', body: { state } });
    const now = (await api.instance()).state;
    if (now !== wanted) {
      throw new BangerError('command_failed', `Firecracker was asked for "${state}" and is "${now}"`);
    }
    for (const listener of activityListeners) listener();
  };
  const room = watchRoom(vmm.disk, { pause: () => setState('Paused'), freeBytes });
  return {
    pressPowerButton: () =>
      api.send({ method: 'PUT', path: '/actions', body: { action_type: 'SendCtrlAltDel' } }),
    pause: () => setState('Paused'),
    resume: async () => {
      await setState('Resumed');
      room.goOn();
    },
    activity: async (timeoutMs) => {
      const { state } = await api.instance(timeoutMs);
      return state === 'Paused' && room.isOut ? 'disk-full' : activities[state];
    },
    onActivity: (listener) => void activityListeners.add(listener),
    growDisk: async (sizeBytes) => {
      if ((await stat(vmm.disk)).size < sizeBytes) await truncate(vmm.disk, sizeBytes);
      // Given its own path again, it looks how large the file is and tells the guest.
      const isInJail = await isJailed(vmm.controlSocket);
      if (isInJail) await raiseFileLimit(exec, vmm.process.pid, vmm.disk);
      const path = isInJail ? insidePaths.disk : vmm.disk;
      const body = { drive_id: rootDriveId, path_on_host: path };
      await api.send({ method: 'PATCH', path: `/drives/${rootDriveId}`, body });
    },
    forwards: async () => (hasNetwork() ? (await listForwards(network)).map(({ port }) => port) : []),
    addForward: async (port) => {
      if (hasNetwork()) return addForward(network, port);
      throw noNetworkError(port);
    },
    removeForward: async (port) => {
      if (hasNetwork()) await removeForward(network, port);
    },
    reach: async () => {
      const own = await ownNamespace();
      return own && { reach: await readReach(exec, own), canChange: true };
    },
    setReach: async (reach) => {
      const own = await ownNamespace();
      if (!own)
        throw new BangerError(
          'host_unsupported',
          'This VM has no network of its own whose reach could be changed',
        );
      await changeReach(exec, own, reach);
    },
    closed: pulse.closed.then(() => {
      room.stop();
      stopWatching();
      return guestEnd(vmm);
    }),
    close: () => {
      room.stop();
      stopWatching();
      pulse.close();
    },
  };
}

interface Pulse {
  readonly closed: Promise<void>;
  close(): void;
}

async function holdConnection(path: string): Promise<Pulse> {
  const socket = connect(path);
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  socket.on('error', () => undefined);
  // What comes unasked is nothing that we know; unread it would hide the end.
  socket.resume();
  return { closed, close: () => void socket.destroy() };
}

const vmmTailBytes = 16 * 1024;

/** A guest that resets ends Firecracker in good order; one that powers off halts. Anything else is no guest's doing. */
function guestEnd(vmm: RunningVmm): GuestEnd | undefined {
  if (hasHalted(vmm)) return 'power-off';
  const words = openVmmLog(vmm.vmmLog).tail(vmmTailBytes).toString('latin1');
  return words.includes('exiting successfully') ? 'reset' : undefined;
}
