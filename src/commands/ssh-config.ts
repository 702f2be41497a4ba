import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { sshConfigKeep, sshConfigShow } from '../engine/rpc/ssh-methods.ts';
import type { Cli } from './cli.ts';
import { includeLine, readSshConfig, withInclude, withoutInclude, writeSshConfig } from './ssh-include.ts';
import { UsageError } from './usage-error.ts';

interface SshConfigOptions {
  readonly install?: boolean;
  readonly uninstall?: boolean;
  readonly file?: string;
}

const help = `
Without an option the configuration is printed. With it, "ssh web.vm" is a shell in VM "web"; scp, sftp, rsync, git and
editors that work over SSH take the name as well. It stays valid when VMs are made, restarted, renamed and deleted:
names are looked up when ssh connects. VMs are known by host keys that were made here, and checked strictly.

Examples:
  banger ssh-config --install            three lines at the top of ~/.ssh/config, nothing else is changed
  ssh web.vm
  rsync -a ./data/ web.vm:/srv/data/
  ssh -L 8080:localhost:80 web.vm
  banger ssh-config --uninstall          takes them out again
  banger ssh-config > vms.conf; ssh -F vms.conf web.vm     without installing anything`;

export function sshConfigCommand(cli: Cli): Command {
  return new Command('ssh-config')
    .description('Let ssh and programs that use it reach VMs as NAME.vm')
    .option('--install', 'include it in your configuration of ssh')
    .option('--uninstall', 'take it out again')
    .option('--file <path>', 'your configuration of ssh (default: ~/.ssh/config)')
    .addHelpText('after', help)
    .action(async (options: SshConfigOptions) => {
      if (options.install && options.uninstall)
        throw new UsageError('--install and --uninstall contradict each other', 'Give one of them');
      // Where ssh itself looks: in the home that the user database has, whatever HOME says.
      const file = resolve(cli.cwd, options.file ?? join(userInfo().homedir, '.ssh/config'));
      if (options.install) return install(cli, file);
      if (options.uninstall) return uninstall(cli, file);
      const shown = await cli.call(sshConfigShow, {});
      const included = withInclude((await readSshConfig(file)) ?? '', shown.file);
      const result = { ...shown, include: includeLine(shown.file), isInstalled: !included.isChanged };
      cli.print(result, ({ config }) => config);
    });
}

async function install(cli: Cli, file: string): Promise<void> {
  const old = await readSshConfig(file);
  const { file: included, hosts } = await cli.call(sshConfigKeep, { keep: true });
  const { text, isChanged } = withInclude(old, included);
  if (isChanged) await writeSshConfig(file, { old, text });
  cli.print({ file, included, hosts, isInstalled: true, isChanged }, () =>
    [
      isChanged ? `${file} includes the VMs now.` : `${file} includes the VMs already.`,
      `Try: ssh ${hosts[0] ?? 'NAME.vm'}`,
    ].join('\n'),
  );
}

/** The user's file first: whatever else fails, ssh is as it was. */
async function uninstall(cli: Cli, file: string): Promise<void> {
  const old = await readSshConfig(file);
  const { text, isChanged } = old === undefined ? { text: undefined, isChanged: false } : withoutInclude(old);
  if (isChanged) await writeSshConfig(file, { old, text });
  await cli.call(sshConfigKeep, { keep: false });
  cli.print({ file, isInstalled: false, isChanged }, () =>
    isChanged ? `${file} is as it was before.` : `${file} has nothing of banger.`,
  );
}
