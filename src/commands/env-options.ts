import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BangerError, errnoOf } from '../errors.ts';
import { printable } from '../printable.ts';
import { collectWord } from './parse.ts';
import { UsageError } from './usage-error.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What `vm run` and `vm exec` ask about a program's variables. */
export interface EnvOptions {
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
}

export function addEnvOptions(command: Command): Command {
  return command
    .option(
      '-e, --env <NAME=value>',
      'set a variable; NAME alone takes it from here (repeatable)',
      collectWord,
    )
    .option(
      '--env-file <file>',
      'set the variables of a file, a NAME=value or a NAME on each line (repeatable)',
      collectWord,
    );
}

/**
 * The variables that were asked for: files first, in their order, then `--env`, as with docker. A bare name takes its
 * value from `own` and is left out when that has none. Errors tell names and places, never values.
 */
export async function readEnvOptions(
  options: EnvOptions,
  from: { readonly own: Environment; readonly cwd: string },
): Promise<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const file of options.envFile ?? [])
    Object.assign(variables, parseEnvFile(await readEnvFile(resolve(from.cwd, file)), file, from.own));
  for (const entry of options.env ?? []) {
    Object.assign(
      variables,
      variable(
        entry,
        from.own,
        (what) => new UsageError(`--env: ${what}`, 'Write it as NAME=value, or NAME'),
      ),
    );
  }
  return variables;
}

/** More than all variables of a program may take on Linux. */
const maxFileBytes = 4 * 1024 * 1024;

async function readEnvFile(file: string): Promise<string> {
  try {
    await using handle = await open(file, 'r');
    const { size } = await handle.stat();
    if (size > maxFileBytes)
      throw new BangerError(
        'invalid_argument',
        `"${file}" has ${size} bytes, too many for a file of variables`,
      );
    return await handle.readFile('utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT') {
      throw new BangerError('not_found', `There is no file "${file}"`, {
        hint: 'Give --env-file the path of a file with a NAME=value on each line',
        cause: error,
      });
    }
    if (errno === 'EISDIR' || errno === 'EACCES')
      throw new BangerError('invalid_argument', `"${file}" cannot be read (${errno})`, { cause: error });
    throw error;
  }
}

/**
 * Docker's format: a variable a line, everything after `=` is its value as it stands, quotes included; lines that are
 * empty or begin with `#` are none.
 */
function parseEnvFile(text: string, file: string, own: Environment): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [index, raw] of text
    .replace(/^\ufeff/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = raw.trimStart();
    if (line === '' || line.startsWith('#')) continue;
    const refuse = (what: string): BangerError =>
      new BangerError('invalid_argument', `"${file}" line ${index + 1}: ${what}`, {
        hint: 'Each line is NAME=value, or NAME, or begins with #',
      });
    Object.assign(variables, variable(line, own, refuse));
  }
  return variables;
}

function variable(
  entry: string,
  own: Environment,
  refuse: (what: string) => BangerError,
): Record<string, string> {
  const at = entry.indexOf('=');
  const name = at < 0 ? entry : entry.slice(0, at);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    // What is no name may be a value that somebody forgot the name of.
    const what = at < 0 ? 'that' : `"${printable(name)}"`;
    throw refuse(`${what} cannot be the name of a variable: letters, digits and _ make one`);
  }
  const value = at < 0 ? own[name] : entry.slice(at + 1);
  if (value?.includes('\0')) throw refuse(`the value of ${name} has a zero byte in it`);
  return value === undefined ? {} : { [name]: value };
}
