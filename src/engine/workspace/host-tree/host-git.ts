import type { Exec, ExecOutput } from '../../../host/exec.ts';

export interface GitOptions {
  readonly input?: Buffer;
  readonly env?: Readonly<Record<string, string>>;
  readonly okExitCodes?: readonly number[];
  /** Where it reads content that a guest chose: out of memory is an error then, and not the end of other programs */
  readonly maxMemoryBytes?: number;
}

/** Runs git in one directory of the host. Only commands that read the user's repository go through it. */
export type HostGit = (args: readonly string[], options?: GitOptions) => Promise<ExecOutput>;

/** Hashing or packing a large tree takes its time. */
const timeoutMs = 15 * 60_000;
const maxOutputBytes = 512 * 1024 * 1024;

/**
 * Settings that keep git from running programs of the repository's choosing, and from changing what it reads.
 * `safecrlf` would refuse files whose line ends do not survive a round trip; those are sent as they are.
 */
const safeSettings = [
  'core.fsmonitor=false',
  'core.hooksPath=/dev/null',
  'core.splitIndex=false',
  'core.untrackedCache=false',
  'core.safecrlf=false',
  'index.sparse=false',
  'core.compression=1',
  'advice.graftFileDeprecated=false',
];

export interface HostGitInput {
  readonly exec: Exec;
  readonly directory: string;
  readonly signal: AbortSignal;
  /** Further settings, stronger than the repository's own */
  readonly settings?: readonly (readonly [name: string, value: string])[];
}

export function hostGit({ exec, directory, signal, settings = [] }: HostGitInput): HostGit {
  const env = { ...hostEnvironment(), ...fixedVariables, ...settingVariables(settings) };
  const fixed = [
    '--no-optional-locks',
    '--no-replace-objects',
    ...safeSettings.flatMap((set) => ['-c', set]),
  ];
  return (args, options = {}) =>
    exec(['git', ...fixed, ...args], {
      ...options,
      cwd: directory,
      env: { ...env, ...options.env },
      signal,
      timeoutMs,
      maxOutputBytes,
    });
}

/** The engine's environment as git on the host gets it. */
export function hostEnvironment(): Record<string, string | undefined> {
  return withoutGitVariables(process.env);
}

const fixedVariables = {
  GIT_OPTIONAL_LOCKS: '0',
  GIT_TERMINAL_PROMPT: '0',
  // A partial clone would fetch what it lacks, over whatever program and credentials the user has for that.
  GIT_ALLOW_PROTOCOL: 'none',
  GIT_NO_LAZY_FETCH: '1',
  // Parents that commits do not have, as replaced objects are no objects.
  GIT_GRAFT_FILE: '/dev/null',
  LC_ALL: 'C',
};

/** The engine's environment is that of whoever started it: `GIT_DIR` and its like would point to another repository. */
function withoutGitVariables(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('GIT_')));
}

/** Settings as variables, since `-c` cannot say a name that contains `=`. */
function settingVariables(
  settings: readonly (readonly [name: string, value: string])[],
): Record<string, string> {
  const variables: Record<string, string> = { GIT_CONFIG_COUNT: String(settings.length) };
  for (const [at, [name, value]] of settings.entries()) {
    variables[`GIT_CONFIG_KEY_${at}`] = name;
    variables[`GIT_CONFIG_VALUE_${at}`] = value;
  }
  return variables;
}
