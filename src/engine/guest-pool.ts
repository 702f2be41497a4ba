import type { ClientKey } from '../host/keys.ts';
import { SshConnection } from '../host/ssh.ts';
import { BangerError } from '../errors.ts';
import type { Vm } from '../state/vms.ts';
import type { Guest } from './guest.ts';
import type { HandleCache } from './handles.ts';
import { sshGuest } from './ssh-guest.ts';

/** The port of the guest's SSH service: not 22, which belongs to the image's own. See guest/init. */
export const guestSshPort = 1022;

/** One open SSH connection per running VM, made when first needed and again after it was lost. */
export class GuestPool {
  readonly #connections = new Map<string, Promise<SshConnection>>();
  readonly #handles: HandleCache;
  readonly #key: () => Promise<ClientKey>;

  constructor(handles: HandleCache, key: () => Promise<ClientKey>) {
    this.#handles = handles;
    this.#key = key;
  }

  /** The way into a running VM. Throws `invalid_state` when it is not running, `guest_unreachable` when it does not answer. */
  async guest(vm: Vm, signal: AbortSignal): Promise<Guest> {
    const handles = this.#handles.get(vm.id);
    if (!handles) {
      throw new BangerError('invalid_state', `VM "${vm.name}" is not running`, {
        hint: `Start it with: banger vm start ${vm.name}`,
      });
    }
    const open = await this.#connections.get(vm.id)?.catch(() => undefined);
    if (open?.isOpen) return sshGuest(open);
    return sshGuest(await this.#connect(vm, handles.sshPort, signal));
  }

  /** Forgets a VM's connection, because its VMM is gone. */
  drop(id: string): void {
    const connection = this.#connections.get(id);
    this.#connections.delete(id);
    void connection?.then(
      (open) => open.close(),
      () => undefined,
    );
  }

  closeAll(): void {
    for (const id of [...this.#connections.keys()]) this.drop(id);
  }

  async #connect(vm: Vm, port: number, signal: AbortSignal): Promise<SshConnection> {
    // Whoever comes meanwhile waits for this one. The signal of the first must not fail the others, so the
    // connection is made under its own time limit and only the waiting is cancelled.
    const existing = this.#connections.get(vm.id);
    const connecting = existing && !(await isSettledClosed(existing)) ? existing : this.#dial(vm, port);
    this.#connections.set(vm.id, connecting);
    return Promise.race([connecting, whenAborted(signal)]);
  }

  async #dial(vm: Vm, port: number): Promise<SshConnection> {
    const target = {
      host: '127.0.0.1',
      port,
      user: 'root',
      key: await this.#key(),
      hostKey: vm.hostPublicKey,
    };
    const never = new AbortController();
    const connection = await SshConnection.connect(target, never.signal);
    void connection.closed.then(() => this.#connections.delete(vm.id));
    return connection;
  }
}

/** True when the connection was made and is closed, or could not be made. Pending ones are neither. */
async function isSettledClosed(connection: Promise<SshConnection>): Promise<boolean> {
  const pending = Symbol('pending');
  const state = await Promise.race([connection.catch(() => undefined), Promise.resolve(pending)]);
  if (state === pending) return false;
  return !(state as SshConnection | undefined)?.isOpen;
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(new BangerError('cancelled', 'Cancelled'));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
