import { Command } from 'commander';
import type { ResultOf } from '../engine/rpc/method.ts';
import { vmSet } from '../engine/rpc/vm-control-methods.ts';
import { vmEgress, vmEgressLog } from '../engine/rpc/vm-egress-methods.ts';
import type { Cli } from './cli.ts';
import { collectEgress, egressText } from './egress-options.ts';
import { renderTable } from './table.ts';
import { UsageError } from './usage-error.ts';
import { addVmSelection, forEachVm, type VmSelection } from './vm-selection.ts';
import { ago } from './vm-text.ts';

const rulesHelp = `
Rules, with commas or as several arguments:
  git.example.org              a name, with every port; git.example.org:443 with one, :8000-8999 with several
  *.example.org                every name below it, and not itself; * is every name
  10.0.0.0/8, 192.0.2.7:22     networks and addresses; what is not public is reached by such a rule only
  all, none                    everything that this host reaches; nothing

With rules, or none, the guest reaches nothing directly: not the internet, not this host, and no name servers. Programs
in it find a proxy in http_proxy and https_proxy, which looks names up here and lets through what a rule names.`;

const examples = `
Examples:
  banger vm egress set web git.example.org '*.example.org:443'
  banger vm egress set --add web wheels.example.org mirror.example.org
  banger vm egress log web
  banger vm egress set web all`;

export function vmEgressCommand(cli: Cli): Command {
  return new Command('egress')
    .description('See and change what VMs may reach outside, and what was blocked')
    .enablePositionalOptions()
    .addHelpText('after', examples)
    .addCommand(showCommand(cli))
    .addCommand(setCommand(cli))
    .addCommand(logCommand(cli));
}

function showCommand(cli: Cli): Command {
  const command = addVmSelection(new Command('show').description('Show what VMs may reach'));
  return command
    .addHelpText('after', '\nExample:\n  banger vm egress show web')
    .action((vms: string[], options: VmSelection) =>
      forEachVm(
        cli,
        { vms, options, command },
        (vm) => cli.call(vmEgress, { vm }),
        ({ name, network, egress, proxy }) => {
          const rules = egressText(egress, network);
          if (!proxy) return `${name}: ${rules}`;
          const why = proxy.problem === undefined ? '' : ` (${proxy.problem})`;
          return `${name}: ${rules}\n  by ${proxy.url} in it${proxy.isUp ? '' : `, which it does not have now${why}`}`;
        },
      ),
    );
}

interface SetOptions {
  readonly add?: boolean;
  readonly remove?: boolean;
  readonly force?: boolean;
}

function setCommand(cli: Cli): Command {
  return new Command('set')
    .description('Change what a VM may reach, at once when it runs')
    .argument('<vm>', 'name or id')
    .argument('<rule...>', 'all, none, or rules', collectEgress)
    .option('--add', 'keep the rules that it has')
    .option('--remove', 'take these rules away, and keep the others')
    .option('--force', 'also when that ends connections to the VM, and what runs over them')
    .addHelpText('after', `${rulesHelp}\n${examples}`)
    .action(async (vm: string, egress: string[], { add, remove, force }: SetOptions) => {
      if (add && remove) throw new UsageError('--add and --remove contradict each other', 'Give one of them');
      const egressChange = add ? 'add' : remove ? 'remove' : 'replace';
      const done = await cli.call(vmSet, { vm, egress, egressChange, force: force ?? false });
      cli.print(done, () => `${done.name}: ${egressText(done.egress, done.network)}`);
    });
}

function logCommand(cli: Cli): Command {
  const command = addVmSelection(
    new Command('log').description('Show what VMs with rules could not reach, and why').alias('logs'),
  );
  return command
    .option('--all', 'show what was let through, too')
    .addHelpText(
      'after',
      '\nThe latest 1000 of each VM are kept while the VM and the engine run.\n\nExample:\n  banger vm egress log web',
    )
    .action((vms: string[], options: VmSelection & { readonly all?: boolean }) =>
      forEachVm(
        cli,
        { vms, options, command },
        async (vm) => {
          const { entries, ...which } = await cli.call(vmEgressLog, { vm });
          return { ...which, entries: entries.filter(({ verdict }) => options.all || verdict === 'blocked') };
        },
        (one) => logText([one], options.all ?? false),
        { allText: (all) => logText(all, options.all ?? false) },
      ),
    );
}

type Log = Pick<ResultOf<typeof vmEgressLog>, 'name' | 'entries'>;

function logText(logs: readonly Log[], hasAllowed: boolean): string {
  const why = ({ verdict, reason = '', rule = 'all' }: Log['entries'][number]): string => {
    if (verdict === 'allowed') return `allowed by ${rule}`;
    return hasAllowed ? `blocked: ${reason}` : reason;
  };
  const rows = logs.flatMap(({ name, entries }) =>
    entries.map((entry) => [
      name,
      ago(entry.time),
      String(entry.count),
      entry.host,
      String(entry.port),
      why(entry),
    ]),
  );
  return renderTable(['VM', 'WHEN', 'TIMES', 'WHAT', 'PORT', hasAllowed ? 'WHY' : 'BLOCKED BECAUSE'], rows);
}
