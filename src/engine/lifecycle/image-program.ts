import { posix } from 'node:path';
import { BangerError } from '../../errors.ts';
import type { ImageConfig } from '../../state/images.ts';
import type { ExecParams } from './exec-vm.ts';

/** What runs, as whom and where, once the image has had its say. */
export interface PlannedProgram {
  /** Absent: a login shell */
  readonly argv?: readonly string[];
  readonly user?: string;
  readonly workingDirectory?: string;
  /** A working directory that is not there is no error */
  readonly fallBackToHome: boolean;
}

/**
 * Fills in what was not asked for from the image's config, as docker does; see docs/decisions/image-config.md.
 *
 * A login shell is root's. So is a program in a workspace, whose files are root's, unless it has a user of its own.
 * The image's words are passed on as they are: none of them is read by a shell.
 */
export function planProgram(
  params: ExecParams,
  image: { readonly name: string; readonly config: ImageConfig },
  workspacePath: string | undefined,
): PlannedProgram {
  const { config } = image;
  const argv = params.entrypoint ? entrypointOf(image, params.argv) : params.argv;
  const usesImageUser = argv !== undefined && (workspacePath === undefined || params.entrypoint === true);
  const directory =
    inWorkspace(params.workingDirectory, workspacePath) ?? workspacePath ?? absolute(config.workingDirectory);
  const user = params.user ?? (usesImageUser ? config.user : undefined);
  for (const value of [...(argv ?? []), user ?? '', directory ?? ''])
    if (value.includes('\0')) throw refused(image.name, 'a zero byte in it');
  return {
    argv,
    user,
    workingDirectory: directory,
    // What the image's own program is made for must be there; for others, its directory is only a default.
    fallBackToHome: params.workingDirectory === undefined && params.entrypoint !== true,
  };
}

/** Docker's rules: arguments replace the image's command, and follow its entrypoint. */
function entrypointOf(
  { name, config }: { readonly name: string; readonly config: ImageConfig },
  args: readonly string[] | undefined,
): readonly string[] {
  const words = [...(config.entrypoint ?? []), ...(args ?? config.command ?? [])];
  if (words.length > 0) return words;
  throw new BangerError('invalid_argument', `Image "${name}" has neither an entrypoint nor a command`, {
    hint: 'Say what to run: banger vm run --image IMAGE -- COMMAND',
  });
}

/** A relative directory is one in the working tree; without a tree there is nothing that it could be relative to. */
function inWorkspace(directory: string | undefined, workspacePath: string | undefined): string | undefined {
  if (directory === undefined || directory.startsWith('/')) return directory;
  if (workspacePath !== undefined) return posix.join(workspacePath, directory);
  throw new BangerError(
    'invalid_argument',
    `The working directory "${directory}" is relative, and the VM has no workspace`,
    {
      hint: `Write it from the root: --workdir /${directory}`,
    },
  );
}

/** Relative ones count from the root, as in docker. */
function absolute(directory: string | undefined): string | undefined {
  return directory === undefined ? undefined : posix.resolve('/', directory);
}

/** The longest path that Linux takes. */
const maxPathBytes = 4095;

/** The directory of an image's config that its guests make at their start, as docker does; absent when none can be. */
export function imageDirectory(config: ImageConfig): string | undefined {
  const directory = absolute(config.workingDirectory);
  const canBeMade =
    directory !== undefined && !directory.includes('\0') && Buffer.byteLength(directory) <= maxPathBytes;
  return canBeMade ? directory : undefined;
}

/** The longest string that Linux passes to a program, and what all of them may take and leave room for arguments. */
const maxVariableBytes = 131_071;
const maxEnvironmentBytes = 1_500_000;

/**
 * The variables of an image's config, by name. Entries without `=` are none; of several with one name the last one
 * counts. What no program could be started with is refused.
 */
export function imageEnvironment(name: string, env: readonly string[]): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  let total = 0;
  for (const entry of env) {
    const at = entry.indexOf('=');
    if (at < 1) continue;
    const bytes = Buffer.byteLength(entry);
    total += bytes + 1;
    if (entry.includes('\0')) throw refused(name, 'a variable with a zero byte');
    if (bytes > maxVariableBytes || total > maxEnvironmentBytes)
      throw refused(name, 'more in its variables than Linux gives to a program');
    variables.set(entry.slice(0, at), entry.slice(at + 1));
  }
  return variables;
}

/**
 * Of the variables of an image's config, those that programs in its VMs get, and the names of the others: what no
 * shell can have as a name, and IFS, which would change how our own scripts read.
 */
export function guestVariables(variables: ReadonlyMap<string, string>): {
  readonly passed: readonly (readonly [string, string])[];
  readonly leftOut: readonly string[];
} {
  const isName = (name: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name !== 'IFS';
  return {
    passed: [...variables].filter(([name]) => isName(name)),
    leftOut: [...variables.keys()].filter((name) => !isName(name)),
  };
}

function refused(name: string, what: string): BangerError {
  return new BangerError('invalid_argument', `The config of image "${name}" has ${what}`, {
    hint: `See it with: banger image show ${name} --json`,
  });
}
