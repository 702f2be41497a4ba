import type { Command } from 'commander';
import { BangerError } from '../errors.ts';
import { vmSelect } from '../engine/rpc/vm-control-methods.ts';
import type { Cli, ListOptions } from './cli.ts';
import { collectFilter, collectSelector, type LabelSelector } from './label-options.ts';
import { UsageError } from './usage-error.ts';

/** What the user said about which VMs are meant. */
export interface VmSelection {
  readonly label?: readonly LabelSelector[];
  readonly filter?: readonly LabelSelector[];
}

/** Lets a command take VMs by name, or by `--label` (also written `--filter label=…`). */
export function addVmSelection(command: Command): Command {
  return addLabelFilter(command.argument('[vm...]', 'names or ids'));
}

export function addLabelFilter(command: Command): Command {
  return addFilter(
    command.option(
      '-l, --label <key[=value]>',
      'VMs with this label; several mean all of them (repeatable)',
      collectSelector,
    ),
  );
}

export function addFilter(command: Command): Command {
  return command.option(
    '--filter <label=key[=value]>',
    'the same as docker writes it (repeatable)',
    collectFilter,
  );
}

/** Labels in the two ways of writing them. */
export function labelsOf({ label = [], filter = [] }: VmSelection): LabelSelector[] {
  return [...label, ...filter];
}

export interface ForEachVmOptions<T> extends Pick<ListOptions<T>, 'allText'> {
  /** A VM that there is not is told, and no failure */
  readonly isMissingFine?: boolean;
}

/**
 * Does the same to all VMs that are meant: found at one moment, each once, in order, side by side. Those that are
 * missing or fail are told, and do not keep the others from it. Results chosen by label are always a list. `action` gets
 * the name to show beside its progress, where there are several.
 */
export async function forEachVm<T>(
  cli: Cli,
  chosen: { readonly vms: readonly string[]; readonly options: VmSelection; readonly command: Command },
  action: (vm: string, subject: string | undefined) => Promise<T>,
  text: (value: T) => string,
  { allText, isMissingFine = false }: ForEachVmOptions<T> = {},
): Promise<void> {
  const labels = requireChoice(chosen);
  const isOne = chosen.vms.length === 1;
  // Nothing to agree on about one: its verb finds it.
  if (isOne && !isMissingFine)
    return cli.forEach(chosen.vms, (vm) => action(vm, undefined), text, { allText });
  const found = await cli.call(vmSelect, { references: [...chosen.vms], labels });
  const names = new Map<string, string>();
  const missing = new Map<string, BangerError>();
  for (const [index, one] of found.entries()) {
    if ('id' in one) names.set(one.id, one.name);
    else if (isMissingFine && one.error.code === 'not_found') cli.say(one.error.message);
    else missing.set(`missing ${index}`, new BangerError(one.error.code, one.error.message, one.error));
  }
  const ids = found.map((one, index) => ('id' in one ? one.id : `missing ${index}`));
  await cli.forEach(
    ids.filter((id) => names.has(id) || missing.has(id)),
    async (id) => {
      const error = missing.get(id);
      if (error) throw error;
      return action(id, names.size > 1 ? names.get(id) : undefined);
    },
    text,
    { alwaysList: !isOne, allText },
  );
}

/** The one VM that is meant, by name or by a label that no other VM has. */
export async function chooseVm(
  cli: Cli,
  chosen: { readonly vm: string | undefined; readonly options: VmSelection; readonly command: Command },
): Promise<string> {
  const { vm, options, command } = chosen;
  const labels = requireChoice({ vms: vm === undefined ? [] : [vm], options, command });
  if (vm !== undefined) return vm;
  const found = (await cli.call(vmSelect, { references: [], labels })).filter((one) => 'id' in one);
  if (found.length === 1) return found[0]!.name;
  throw new BangerError(
    'invalid_argument',
    `${found.length} VMs have that label: ${found.map(({ name }) => name).join(', ')}`,
    { hint: 'Name one of them, or give another --label that only it has' },
  );
}

/** The labels of a choice, which are empty when names were given. Throws unless it is one of the two. */
export function requireChoice(chosen: {
  readonly vms: readonly string[];
  readonly options: VmSelection;
  readonly command: Command;
}): LabelSelector[] {
  const labels = labelsOf(chosen.options);
  if (chosen.vms.length === 0 && labels.length === 0) {
    chosen.command.error("error: missing required argument 'vm'", {
      code: 'commander.missingArgument',
      exitCode: 2,
    });
  }
  if (chosen.vms.length > 0 && labels.length > 0) {
    throw new UsageError('VMs are chosen by name or by label, not by both', 'Give one of them');
  }
  return labels;
}
