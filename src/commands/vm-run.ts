import { constants } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { runSummary, vmRun } from '../engine/rpc/vm-methods.ts';
import { BangerError } from '../errors.ts';
import { exitCodeOf } from './attach.ts';
import { addBranchOptions, guestBranchParam, type BranchOptions } from './branch-options.ts';
import type { Cli } from './cli.ts';
import { addEnvOptions, readEnvOptions, type EnvOptions } from './env-options.ts';
import { includedPaths, includeOption } from './include-option.ts';
import { addLendOptions, readLendOptions, type LendOptions } from './secret-options.ts';
import { addTemplateOptions, chooseTemplate, type TemplateOptions } from './tree-template.ts';
import { UsageError } from './usage-error.ts';
import { addVmSpecOptions, vmSpecParams, type VmSpecOptions } from './vm-options.ts';
import { stagesText } from './vm-text.ts';
import { shellQuote, shellWord } from '../host/shell-quote.ts';

interface RunOptions extends VmSpecOptions, EnvOptions, LendOptions, TemplateOptions, BranchOptions {
  readonly rm?: boolean;
  readonly keep?: boolean;
  readonly detach?: boolean;
  readonly workdir?: string;
  readonly entrypoint?: boolean;
  readonly user?: string;
  readonly includeUntracked?: boolean;
  readonly include: readonly string[];
}

const help = `
The VM is deleted afterwards when a command was given and no --name; otherwise it stays.
What the command changed in the working tree is saved as a patch before a VM is deleted.

Examples:
  banger vm run . -- npm test            one command in this working tree
  banger vm run --image alpine           a shell in a new VM
  banger vm run -d . --name web          a VM with this working tree, for banger vm exec and ssh
  banger vm run --image app --entrypoint what the image is made to run
  banger vm run . --keep -- make         keep the VM to look around`;

export function vmRunCommand(cli: Cli, env: Readonly<Record<string, string | undefined>>): Command {
  const command = addVmSpecOptions(
    new Command('run').description(
      'Create a VM, send a git working tree into it, and run a command or a shell there',
    ),
    cli.cwd,
  );
  return addTemplateOptions(addLendOptions(addEnvOptions(addBranchOptions(command))))
    .argument('[path]', 'git working tree to send, or a directory in it to run in')
    .argument('[command...]', 'program and arguments, after --; a shell when there is none')
    .option('--rm', 'delete the VM afterwards, even one with a name or a shell')
    .option('--keep', 'keep the VM')
    .option('-d, --detach', 'run nothing: return when the VM is ready, and print its name')
    .option(
      '-w, --workdir <dir>',
      'directory in the guest (default: path, in the working tree); a relative one is in that',
    )
    .option(
      '-u, --user <user>',
      "user in the guest (default: the image's; root with a working tree or a shell)",
    )
    .option('-i, --interactive', 'as for docker; input always reaches the command')
    .option('-t, --tty', 'as for docker; the command has a terminal whenever you have')
    .option('--entrypoint', "run the image's own program; what follows -- are its arguments")
    .option('--include-untracked', 'send untracked files too; ignored ones stay')
    .addOption(includeOption())
    .addHelpText('after', help)
    .action(async (path: string | undefined, argv: string[], options: RunOptions) => {
      const words = splitWords(command, path, argv);
      refuseContradictions(words, options);
      await runInNewVm(cli, {
        words,
        options,
        env: await readEnvOptions(options, { own: env, cwd: cli.cwd }),
        lent: await readLendOptions(cli, options, env),
      });
    });
}

interface RunWords {
  readonly path?: string;
  readonly argv?: readonly string[];
}

/**
 * `run -- cmd` has no path: commander counts words without looking at `--`, so the raw arguments tell. A path
 * stands before `--`, a command after it; `run . make` without `--` is a slip, and refused.
 */
function splitWords(command: Command, path: string | undefined, argv: readonly string[]): RunWords {
  const raw = rawArguments(command);
  const dashes = raw.indexOf('--');
  const after = dashes < 0 ? [] : raw.slice(dashes + 1);
  const words = path === undefined ? [] : [path, ...argv];
  const before = words.slice(0, words.length - after.length);
  if (before.length > 1) {
    throw new UsageError(
      `"${before[1]}" is one word too many before --`,
      `Put -- before the command: banger vm run ${before[0]} -- ${before.slice(1).join(' ')}`,
    );
  }
  return { path: before[0], argv: after.length === 0 ? undefined : after };
}

function rawArguments(command: Command): readonly string[] {
  let root: Command = command;
  while (root.parent) root = root.parent;
  return (root as Command & { rawArgs: readonly string[] }).rawArgs;
}

/** What cannot be meant is refused before there is a VM. */
function refuseContradictions({ path, argv }: RunWords, options: RunOptions): void {
  const { rm, keep, detach } = options;
  if (path === undefined && (options.branch ?? options.from) !== undefined)
    throw new UsageError(
      '--branch is for a working tree, and none is sent',
      `Give its path: banger vm run . --branch ${options.branch ?? 'NAME'}`,
    );
  guestBranchParam(options);
  if (path === undefined && options.template)
    throw new UsageError(
      '--template is for a working tree, and none is sent',
      `Give its path: banger vm run . --template ${options.template}`,
    );
  if (rm && keep) throw new UsageError('--rm and --keep contradict each other', 'Give one of them');
  if (options.workdir !== undefined && !options.workdir.startsWith('/') && path === undefined) {
    throw new UsageError(
      `"${options.workdir}" is a relative --workdir, and there is no working tree that it could be in`,
      `Write it from the root: --workdir ${shellWord(`/${options.workdir}`)}`,
    );
  }
  if (!detach) return;
  if (rm) {
    throw new UsageError(
      '--detach and --rm contradict each other: nothing runs that could end, and the VM with it',
      'Leave out --rm; to have it stopped by itself: --ttl 2h or --idle-stop 30m',
    );
  }
  const extra = argv ? 'a command' : options.entrypoint ? '--entrypoint' : undefined;
  if (extra) {
    throw new UsageError(
      `--detach runs nothing, and ${extra} was given`,
      `Make the VM first: banger vm run -d --name NAME${path === undefined ? '' : ` ${shellWord(path)}`}; then: banger vm exec NAME -- ${argv ? shellQuote(argv) : 'COMMAND'}`,
    );
  }
  if (options.secret ?? options.secretFile ?? options.sshAgent) {
    throw new UsageError(
      '--detach runs nothing that a secret or an SSH agent could be lent to',
      'Give it to what runs later: banger vm exec --secret NAME VM -- COMMAND',
    );
  }
  for (const name of ['user', 'workdir'] as const) {
    if (options[name] !== undefined) {
      throw new UsageError(
        `--detach runs nothing, so that --${name} has no meaning`,
        `Give it to what runs later: banger vm exec --${name} ${shellWord(options[name]!)} NAME -- COMMAND`,
      );
    }
  }
}

/** Who knows docker puts the name of an image where the path goes. */
function namingImages({ path, argv }: RunWords): (error: unknown) => never {
  return (error) => {
    // What has a way out of its own is about something else.
    if (!(error instanceof BangerError) || error.code !== 'not_found' || error.hint !== undefined)
      throw error;
    const program = argv === undefined ? '' : ` -- ${shellQuote(argv)}`;
    throw new BangerError(error.code, error.message, {
      hint: `Give a directory of a git working tree. An image is named with: banger vm run --image ${shellWord(path ?? 'IMAGE')}${program}`,
      cause: error,
    });
  };
}

interface RunInput {
  readonly words: RunWords;
  readonly options: RunOptions;
  readonly env: Record<string, string>;
  readonly lent: Awaited<ReturnType<typeof readLendOptions>>;
}

async function runInNewVm(cli: Cli, { words, options, env, lent }: RunInput): Promise<void> {
  const runsProgram = words.argv !== undefined || options.entrypoint === true;
  const isThrowAway = runsProgram && options.name === undefined;
  const remove = options.rm ?? (options.keep ? false : isThrowAway);
  const path = words.path === undefined ? undefined : resolve(cli.cwd, words.path);
  const choice =
    path === undefined ? {} : await chooseTemplate(cli, path, options).catch(namingImages(words));
  const exit = await cli.attach(vmRun, {
    ...vmSpecParams(options),
    path,
    ...choice,
    bootstrap: options.bootstrap,
    keepFailed: options.keep ?? false,
    argv: words.argv === undefined ? undefined : [...words.argv],
    env,
    ...lent,
    workingDirectory: options.workdir,
    user: options.user,
    entrypoint: options.entrypoint ?? false,
    guestBranch: guestBranchParam(options),
    includeUntracked: options.includeUntracked ?? false,
    include: includedPaths(cli.cwd, words.path, options.include),
    terminal: cli.programTerminal(),
    detach: options.detach ?? false,
    remove,
  });
  const exitCode = exitCodeOf(exit, constants.signals);
  cli.exitWith(exitCode);
  const summary = runSummary.parse(exit);
  if (cli.json) return cli.print({ ...summary, exitCode }, () => '');
  cli.say(`${summary.vm}: ${stagesText(summary.stages)}`);
  if (summary.patch) {
    const { path, files, warnings } = summary.patch;
    for (const warning of warnings) cli.say(`warning: ${warning}`);
    cli.say(
      `${files} file${files === 1 ? '' : 's'} changed in the guest. Look: less ${path}; take over: git apply ${path}`,
    );
  }
  if (options.detach) cli.print(summary, ({ vm }) => vm);
  if (!summary.removed) {
    cli.say(
      `VM ${summary.vm} goes on running. Enter it: banger vm ssh ${summary.vm}; delete it: banger vm delete ${summary.vm}`,
    );
  }
}
