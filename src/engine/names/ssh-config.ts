import { BangerError } from '../../errors.ts';
import { shellQuote } from '../../host/shell-quote.ts';
import { hostNameOf, vmDomain } from '../rpc/ssh-methods.ts';

/** How this banger is run again. */
export interface OwnProgram {
  readonly argv: readonly [string, ...string[]];
  /** Variables that say where its things are; undefined where one must not be set */
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface SshConfigInput {
  readonly program: OwnProgram;
  readonly identityFile: string;
  readonly knownHosts: string;
  /** Names of VMs */
  readonly vms: readonly string[];
}

/** First word of the hidden command by which ssh gets its connection to a VM; see `commands/ssh-proxy.ts`. */
export const sshProxyWord = 'ssh-proxy';

/**
 * What OpenSSH has to know to reach any VM as NAME.vm. It holds for VMs that are made later, too: names are looked up
 * when ssh connects, and then host keys are brought up to date. VMs are listed only for programs that offer the hosts
 * they find in it.
 *
 * Throws `invalid_argument` for a path that OpenSSH has no way to write.
 */
export function sshConfigText({ program, identityFile, knownHosts, vms }: SshConfigInput): string {
  const options = [
    ['ProxyCommand', proxyCommand(program)],
    ['User', 'root'],
    ['IdentityFile', quotePath(identityFile)],
    ['IdentitiesOnly', 'yes'],
    ['UserKnownHostsFile', quotePath(knownHosts)],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['StrictHostKeyChecking', 'yes'],
    ['UpdateHostKeys', 'no'],
    // What runs in a VM may be anybody's: for one that is trusted there is ssh -A.
    ['ForwardAgent', 'no'],
    // The guest's SSH service loses sessions that begin on a connection while others end (docs/decisions/ssh-connections.md).
    ['ControlMaster', 'no'],
    ['ControlPath', 'none'],
  ];
  return [
    '# Made by banger, which keeps it up to date: what is changed here is lost.',
    `Host *.${vmDomain}`,
    ...options.map(([key, value]) => `  ${key} ${value}`),
    ...vms.map((vm) => `Host ${hostNameOf(vm)}`),
    // Older versions let the last Host hold for what follows the Include.
    'Match all',
    '',
  ].join('\n');
}

/** One line of a known_hosts file for each VM. */
export function knownHostsText(
  vms: readonly { readonly name: string; readonly hostPublicKey: string }[],
): string {
  return vms.map(({ name, hostPublicKey }) => `${hostNameOf(name)} ${hostPublicKey}\n`).join('');
}

/** For the user's shell, after ssh has put the host in: `%h` is nothing but letters, digits, dots and hyphens there. */
function proxyCommand({ argv, env }: OwnProgram): string {
  const names = Object.keys(env);
  const words = [
    'env',
    ...names.filter((name) => env[name] === undefined).flatMap((name) => ['-u', name]),
    ...names.filter((name) => env[name] !== undefined).map((name) => `${name}=${env[name]}`),
    ...argv,
    sshProxyWord,
  ];
  const text = shellQuote(words).replaceAll('%', '%%');
  refuse(text, /[\n\r]/);
  return `${text} '%h'`;
}

/** A path as the value of an option: tokens that begin with a per cent sign are looked for in it, and variables. */
function quotePath(path: string): string {
  refuse(path, /[\n\r"\\]|\$\{/);
  return `"${path.replaceAll('%', '%%')}"`;
}

function refuse(text: string, characters: RegExp): void {
  if (!characters.test(text)) return;
  throw new BangerError('invalid_argument', `OpenSSH cannot be told of ${JSON.stringify(text)}`, {
    hint: 'Choose a place without quotes, backslashes and line breaks in its name: BANGER_HOME=DIR banger …',
  });
}
