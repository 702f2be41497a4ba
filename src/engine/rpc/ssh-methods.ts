import * as z from 'zod/mini';
import { question, method } from './method.ts';

/** The domain in which VMs have names: `web.vm`. */
export const vmDomain = 'vm';

/** The name that other programs know a VM by. */
export function hostNameOf(vm: string): string {
  return `${vm}.${vmDomain}`;
}

/**
 * Where the SSH service of a VM is, for a client that is about to connect; that it will know the VM by its key is seen
 * to before. One that is starting is waited for. Throws `invalid_state` when the VM is not running.
 */
export const sshWay = question(
  'ssh.way',
  /** `web.vm` or `web`, as the user wrote it */
  z.object({ host: z.string() }),
  z.object({ vm: z.string(), address: z.string(), port: z.int() }),
);

const sshConfigView = z.object({
  /** The file that the engine keeps up to date once it is `kept` */
  file: z.string(),
  isKept: z.boolean(),
  /** What is in it, or would be */
  config: z.string(),
  hosts: z.array(z.string()),
});

/** A configuration of OpenSSH by which it reaches all VMs. */
export const sshConfigShow = question('ssh.config.show', z.object({}), sshConfigView);

/** Writes it to its file and keeps it up to date, or removes the file. */
export const sshConfigKeep = method('ssh.config.keep', z.object({ keep: z.boolean() }), sshConfigView);
