import { Command, Option } from 'commander';
import type { BuildIdentity } from '../engine/rpc/client.ts';
import type { Cli } from './cli.ts';
import type { DoctorInput } from './doctor.ts';
import { refuseEmptyWords } from './empty-words.ts';

/** What commands are made of besides the Cli itself. */
export interface ProgramInput {
  readonly cli: Cli;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly build: BuildIdentity;
  /** The file that is banger */
  readonly program: string;
  readonly doctor: DoctorInput;
  /** Called before any action with the value of `--json` */
  readonly setJson: (json: boolean) => void;
}

type Load = (input: ProgramInput) => Promise<Command>;

interface Group {
  readonly description: string;
  readonly commands: Readonly<Record<string, Load>>;
}

/**
 * Every command, by the words that lead to it. A command's module is loaded when its words are on the command
 * line; help and completion load what they show.
 */
const groups: Readonly<Record<string, Group>> = {
  vm: {
    description: 'Create, run, enter and delete VMs',
    commands: {
      run: async ({ cli, env }) => (await import('./vm-run.ts')).vmRunCommand(cli, env),
      create: async ({ cli }) => (await import('./vm-create.ts')).vmCreateCommand(cli),
      start: async ({ cli }) => (await import('./vm-start.ts')).vmStartCommand(cli),
      stop: async ({ cli }) => (await import('./vm-stop.ts')).vmStopCommand(cli),
      restart: async ({ cli }) => (await import('./vm-restart.ts')).vmRestartCommand(cli),
      set: async ({ cli }) => (await import('./vm-set.ts')).vmSetCommand(cli),
      rename: async ({ cli }) => (await import('./vm-rename.ts')).vmRenameCommand(cli),
      wait: async ({ cli }) => (await import('./vm-wait.ts')).vmWaitCommand(cli),
      prune: async ({ cli }) => (await import('./vm-prune.ts')).vmPruneCommand(cli),
      stats: async ({ cli }) => (await import('./vm-stats.ts')).vmStatsCommand(cli),
      ports: async ({ cli }) => (await import('./vm-ports.ts')).vmPortsCommand(cli),
      egress: async ({ cli }) => (await import('./vm-egress.ts')).vmEgressCommand(cli),
      port: async ({ cli }) => (await import('./vm-port.ts')).vmPortCommand(cli),
      pause: async ({ cli }) => (await import('./vm-pause.ts')).vmPauseCommand(cli),
      resume: async ({ cli }) => (await import('./vm-resume.ts')).vmResumeCommand(cli),
      kill: async ({ cli }) => (await import('./vm-kill.ts')).vmKillCommand(cli),
      delete: async ({ cli }) => (await import('./vm-delete.ts')).vmDeleteCommand(cli),
      list: async ({ cli }) => (await import('./vm-list.ts')).vmListCommand(cli),
      show: async ({ cli }) => (await import('./vm-show.ts')).vmShowCommand(cli),
      exec: async ({ cli, env }) => (await import('./vm-exec.ts')).vmExecCommand(cli, env),
      ssh: async ({ cli, env }) => (await import('./vm-ssh.ts')).vmSshCommand(cli, env),
      cp: async ({ cli }) => (await import('./vm-cp.ts')).vmCpCommand(cli),
      logs: async ({ cli }) => (await import('./vm-logs.ts')).vmLogsCommand(cli),
    },
  },
  image: {
    description: 'Fetch, import and delete images',
    commands: {
      pull: async ({ cli }) => (await import('./image-pull.ts')).imagePullCommand(cli),
      import: async ({ cli }) => (await import('./image-import.ts')).imageImportCommand(cli),
      export: async ({ cli }) => (await import('./image-export.ts')).imageExportCommand(cli),
      bundle: async ({ cli }) => (await import('./image-bundle.ts')).imageBundleCommand(cli),
      register: async ({ cli }) => (await import('./image-register.ts')).imageRegisterCommand(cli),
      promote: async ({ cli }) => (await import('./image-promote.ts')).imagePromoteCommand(cli),
      tag: async ({ cli }) => (await import('./image-tag.ts')).imageTagCommand(cli),
      rename: async ({ cli }) => (await import('./image-rename.ts')).imageRenameCommand(cli),
      list: async ({ cli }) => (await import('./image-list.ts')).imageListCommand(cli),
      show: async ({ cli }) => (await import('./image-show.ts')).imageShowCommand(cli),
      catalog: async ({ cli }) => (await import('./image-catalog.ts')).imageCatalogCommand(cli),
      delete: async ({ cli }) => (await import('./image-delete.ts')).imageDeleteCommand(cli),
      prune: async ({ cli }) => (await import('./image-prune.ts')).imagePruneCommand(cli),
    },
  },
  kernel: {
    description: 'Fetch, import and choose the kernels that VMs boot',
    commands: {
      pull: async ({ cli }) => (await import('./kernel-pull.ts')).kernelPullCommand(cli),
      import: async ({ cli }) => (await import('./kernel-import.ts')).kernelImportCommand(cli),
      list: async ({ cli }) => (await import('./kernel-list.ts')).kernelListCommand(cli),
      show: async ({ cli }) => (await import('./kernel-show.ts')).kernelShowCommand(cli),
      delete: async ({ cli }) => (await import('./kernel-delete.ts')).kernelDeleteCommand(cli),
      'set-default': async ({ cli }) =>
        (await import('./kernel-set-default.ts')).kernelSetDefaultCommand(cli),
    },
  },
  workspace: {
    description: 'Send a git working tree into a VM, and get back what changed',
    commands: {
      prepare: async ({ cli }) => (await import('./workspace-prepare.ts')).workspacePrepareCommand(cli),
      watch: async ({ cli }) => (await import('./workspace-watch.ts')).workspaceWatchCommand(cli),
      export: async ({ cli }) => (await import('./workspace-export.ts')).workspaceExportCommand(cli),
      apply: async ({ cli }) => (await import('./workspace-apply.ts')).workspaceApplyCommand(cli),
      remote: async ({ cli, env, program }) =>
        (await import('./workspace-remote.ts')).workspaceRemoteCommand(cli, env, program),
    },
  },
  network: {
    description: 'Make networks whose VMs reach each other',
    commands: {
      create: async ({ cli }) => (await import('./network-create.ts')).networkCreateCommand(cli),
      list: async ({ cli }) => (await import('./network-list.ts')).networkListCommand(cli),
      show: async ({ cli }) => (await import('./network-show.ts')).networkShowCommand(cli),
      delete: async ({ cli }) => (await import('./network-delete.ts')).networkDeleteCommand(cli),
    },
  },
  host: {
    description: 'Prepare this host, as root and once, for bridges without root',
    commands: {
      setup: async ({ cli, env }) => (await import('./host-setup.ts')).hostSetupCommand(cli, env),
      status: async ({ cli, env }) => (await import('./host-status.ts')).hostStatusCommand(cli, env),
      prune: async ({ cli, env, doctor }) =>
        (await import('./host-prune.ts')).hostPruneCommand(cli, env, doctor.layout.stateDirectory),
      teardown: async ({ cli, env }) => (await import('./host-teardown.ts')).hostTeardownCommand(cli, env),
    },
  },
  operation: {
    description: 'Look at what the engine is doing, follow it, or cancel it',
    commands: {
      list: async ({ cli }) => (await import('./operation-list.ts')).operationListCommand(cli),
      show: async ({ cli }) => (await import('./operation-show.ts')).operationShowCommand(cli),
      watch: async ({ cli }) => (await import('./operation-watch.ts')).operationWatchCommand(cli),
      cancel: async ({ cli }) => (await import('./operation-cancel.ts')).operationCancelCommand(cli),
    },
  },
  engine: {
    description: 'Look at the background process, or end it',
    commands: {
      status: async ({ cli }) => (await import('./engine-status.ts')).engineStatusCommand(cli),
      stop: async ({ cli }) => (await import('./engine-stop.ts')).engineStopCommand(cli),
    },
  },
};

const topLevel: Readonly<Record<string, Load>> = {
  ps: async ({ cli }) => (await import('./vm-list.ts')).vmListCommand(cli, 'ps'),
  'ssh-config': async ({ cli }) => (await import('./ssh-config.ts')).sshConfigCommand(cli),
  events: async ({ cli }) => (await import('./events.ts')).eventsCommand(cli),
  doctor: async ({ cli, doctor }) => (await import('./doctor.ts')).doctorCommand(cli, doctor),
  version: async ({ cli, build }) => (await import('./version.ts')).versionCommand(cli, build),
  completion: async ({ cli }) => (await import('./completion.ts')).completionCommand(cli),
};

const example = `
Examples:
  banger doctor                          can this host run VMs?
  banger vm run . -- npm test            one command in a new VM with this working tree
  banger vm create --image ubuntu        a VM to keep
  banger vm ssh NAME                     a shell in it`;

/**
 * The program for these words. Only what they need is loaded, unless they lead to no command: then everything is
 * there, for help and for suggestions.
 */
export async function buildProgram(input: ProgramInput, words: readonly string[]): Promise<Command> {
  const [first, second] = words.filter((word) => !word.startsWith('-'));
  const program = new Command('banger')
    .description('A real Linux machine of your own in seconds')
    .enablePositionalOptions()
    .addOption(jsonOption())
    .version(input.build.version, '-V, --version', 'show the version')
    .addHelpText('after', example)
    .hook('preAction', (_, action) => {
      input.setJson(action.optsWithGlobals<{ json?: boolean }>().json ?? false);
      refuseEmptyWords(action);
    });

  const loadTop = first === undefined ? undefined : topLevel[first];
  if (loadTop) return program.addCommand(await load(loadTop, input));
  const group = first === undefined ? undefined : groups[first];
  if (first !== undefined && group) {
    return program.addCommand(await buildGroup(input, { name: first, group, only: second }));
  }
  return addEverything(program, input);
}

/** The whole tree, for help at the top and for completion. */
export async function addEverything(program: Command, input: ProgramInput): Promise<Command> {
  for (const [name, group] of Object.entries(groups)) {
    program.addCommand(await buildGroup(input, { name, group, only: undefined }));
  }
  for (const one of Object.values(topLevel)) program.addCommand(await load(one, input));
  return program;
}

async function buildGroup(
  input: ProgramInput,
  what: { readonly name: string; readonly group: Group; readonly only: string | undefined },
): Promise<Command> {
  const { name, group, only } = what;
  const command = new Command(name)
    .description(group.description)
    .enablePositionalOptions()
    .addOption(jsonOption());
  if (name === 'workspace') command.alias('ws');
  if (name === 'operation') command.alias('op');
  command.addHelpText(
    'after',
    `\nMore about one of them:\n  banger ${name} ${Object.keys(group.commands)[0]} --help`,
  );
  const chosen = only === undefined ? undefined : group.commands[only];
  for (const one of chosen ? [chosen] : Object.values(group.commands))
    command.addCommand(await load(one, input));
  return command;
}

async function load(one: Load, input: ProgramInput): Promise<Command> {
  const command = await one(input);
  // Words of a second level, such as those of `vm port`, take it as well.
  for (const below of command.commands) below.addOption(jsonOption());
  return command.addOption(jsonOption());
}

function jsonOption(): Option {
  return new Option('--json', 'print JSON on stdout, and progress as JSON lines on stderr');
}
