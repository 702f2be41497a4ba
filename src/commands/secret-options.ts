import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BangerError, errnoOf } from '../errors.ts';
import type { Cli } from './cli.ts';
import { collectWord } from './parse.ts';
import { UsageError } from './usage-error.ts';

/** What `vm run`, `vm exec` and `vm ssh` lend a program of what the user has. */
export interface LendOptions {
  readonly secret?: readonly string[];
  readonly secretFile?: readonly string[];
  readonly sshAgent?: boolean;
}

export function addLendOptions(command: Command): Command {
  return command
    .option(
      '--secret <NAME>',
      'lend it the value of a variable set here, in /run/secrets/NAME and $NAME; NAME=VARIABLE takes another one (repeatable)',
      collectWord,
    )
    .option('--secret-file <NAME=file>', 'the same with the content of a file (repeatable)', collectWord)
    .option('--ssh-agent', 'lend it your SSH agent while it runs');
}

const maxSecretBytes = 65_536;

/** What the engine is asked for. Errors tell names, never values: what stands after `=` may be one by mistake. */
export async function readLendOptions(
  cli: Cli,
  options: LendOptions,
  own: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly secrets: Record<string, string>; readonly agentSocket?: string }> {
  const secrets: Record<string, string> = {};
  for (const entry of options.secret ?? []) {
    const { name, rest = name } = splitEntry('--secret', entry);
    const value = own[rest];
    if (value === undefined)
      throw new UsageError(
        rest === name
          ? `--secret ${name}: ${name} is not set here`
          : `--secret ${name}: what stands after = is not a variable that is set here`,
        `Set it first, without its value on a command line: read -rs ${name}; export ${name}`,
      );
    // An engine that this command starts would have it in its environment for as long as it runs.
    cli.keepFromEngine(rest);
    secrets[name] = checked(name, value);
  }
  for (const entry of options.secretFile ?? []) {
    const { name, rest } = splitEntry('--secret-file', entry);
    if (rest === undefined)
      throw new UsageError('--secret-file names no file', `Write it as: --secret-file ${name}=FILE`);
    secrets[name] = checked(name, await readSecret(name, resolve(cli.cwd, rest)));
  }
  return { secrets, agentSocket: options.sshAgent ? agentOf(own, cli.cwd) : undefined };
}

function splitEntry(option: string, entry: string): { name: string; rest?: string } {
  const at = entry.indexOf('=');
  const name = at < 0 ? entry : entry.slice(0, at);
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return { name, rest: at < 0 ? undefined : entry.slice(at + 1) };
  throw new UsageError(
    `${option}: what was given is not the name of a variable`,
    'Letters, digits and _ make one',
  );
}

function checked(name: string, value: string): string {
  if (value.includes('\0'))
    throw new UsageError(`The secret ${name} has a zero byte in it`, 'Encode it, as by base64');
  if (Buffer.byteLength(value) > maxSecretBytes)
    throw new UsageError(
      `The secret ${name} has more than ${maxSecretBytes} bytes`,
      'Copy it with: banger vm cp',
    );
  return value;
}

async function readSecret(name: string, file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    throw new BangerError('invalid_argument', `"${file}" cannot be read (${errnoOf(error)})`, {
      cause: error,
    });
  }
  // It travels as text, and other bytes would be replaced on the way.
  if (isUtf8(bytes)) return bytes.toString('utf8');
  throw new UsageError(`The secret ${name} is not text (UTF-8)`, 'Encode it, as by base64');
}

function agentOf(own: Readonly<Record<string, string | undefined>>, cwd: string): string {
  const socket = own['SSH_AUTH_SOCK'];
  if (socket) return resolve(cwd, socket);
  throw new UsageError(
    'There is no SSH agent: SSH_AUTH_SOCK is not set',
    'Start one with: eval "$(ssh-agent)"; ssh-add',
  );
}
