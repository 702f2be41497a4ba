import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { BangerError, errnoOf, errorText } from '../../errors.ts';
import { findFreePort } from '../ports.ts';
import { fail, pass, warn, type CheckResult } from './check.ts';

/** Reads the configuration; `read` throws what is wrong with it. */
export function checkConfig(file: string, read: () => unknown): CheckResult {
  const subject = { id: 'config', title: 'Configuration' };
  try {
    read();
    return pass(subject, existsSync(file) ? `${file} is valid` : 'defaults: there is no file');
  } catch (error) {
    const hint = error instanceof BangerError ? error.hint : undefined;
    return fail(subject, errorText(error), hint ?? `Look at: ls -l ${file}`);
  }
}

const answerTimeoutMs = 2_000;

/** Whether an engine listens. For information: both answers are fine, and none is started. */
export async function checkEngine(socketPath: string): Promise<CheckResult> {
  const subject = { id: 'engine', title: 'Engine' };
  const errno = await connectError(socketPath);
  if (errno === undefined) return pass(subject, 'running');
  if (errno === 'ENOENT' || errno === 'ENOTDIR') return pass(subject, 'not running; started when needed');
  if (errno === 'ECONNREFUSED') {
    return pass(subject, 'not running; the next one replaces the socket that the last one left');
  }
  return warn(
    subject,
    `its socket ${socketPath} cannot be used (${errno})`,
    'See its state with: banger engine status',
  );
}

/** Whether ports of the loopback can be had: VMs are reached through them. */
export async function checkLoopback(findPort: () => Promise<number> = findFreePort): Promise<CheckResult> {
  const subject = { id: 'loopback', title: 'Loopback' };
  try {
    await findPort();
    return pass(subject, 'ports of 127.0.0.1 can be had');
  } catch (error) {
    return fail(subject, errorText(error), 'Bring the loopback up: sudo ip link set lo up');
  }
}

/** What keeps us from connecting: the name of the error; undefined when nothing does. */
function connectError(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: answerTimeoutMs });
    const settle = (answer: string | undefined): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(undefined));
    socket.once('timeout', () => settle('ETIMEDOUT'));
    socket.once('error', (error) => settle(errnoOf(error) ?? errorText(error)));
  });
}
