import { dockerCommandHint, dockerOptionHint } from './docker-words.ts';
import { UsageError } from './usage-error.ts';

/** Where on the command line something was wrong. */
export interface UsagePlace {
  /** Words that lead to the command, such as `banger vm stop` */
  readonly words: readonly string[];
  /** Commands of this name in other places, such as `banger vm exec` for `exec` */
  readonly elsewhere: (name: string) => readonly string[];
}

/** What commander complains of, in words such as those of all other errors. */
export function usageErrorOf(complaint: string, place: UsagePlace): UsageError {
  const command = place.words.join(' ');
  const [text = '', suggestion = ''] = complaint
    .replace(/^error: /, '')
    .trim()
    .split(/\n\(Did you mean (?:one of )?/);
  const meant = suggestion.replace(/\?\)$/, '').split(', ').filter(Boolean);
  const help = `See what it takes with: ${command} --help`;

  const unknown = match(/^unknown command '(.*)'$/s, text);
  if (unknown) {
    const elsewhere = place.elsewhere(unknown[0]!);
    const candidates = elsewhere.length > 0 ? elsewhere : meant.map((name) => `${command} ${name}`);
    const docker = elsewhere.length === 0 ? dockerCommandHint(command, unknown[0]!) : undefined;
    const hint =
      candidates.length > 0
        ? `Did you mean: ${candidates.join(', or ')}`
        : `List commands with: ${command} --help`;
    return new UsageError(`There is no command "${command} ${unknown[0]}"`, docker ?? hint);
  }
  const option = match(/^unknown option '(.*)'$/s, text);
  if (option) {
    const docker = dockerOptionHint(command, option[0]!);
    const hint = meant.length > 0 ? `Did you mean: ${meant.join(', or ')}` : help;
    return new UsageError(`"${command}" has no option "${option[0]}"`, docker ?? hint);
  }
  return new UsageError(rephrased(text, command), help);
}

function rephrased(text: string, command: string): string {
  const missing = match(/^missing required argument '(.*)'$/, text);
  if (missing) return `"${command}" needs the argument "${missing[0]}"`;
  const valueless = match(/^option '(.*)' argument missing$/, text);
  if (valueless) return `The option "${longFlag(valueless[0]!)}" needs a value`;
  const mandatory = match(/^required option '(.*)' not specified$/, text);
  if (mandatory) return `"${command}" needs the option "${longFlag(mandatory[0]!)}"`;
  const option = match(/^option '(.*?)' argument '(.*)' is invalid\. (.*)$/s, text);
  if (option)
    return `The option "${longFlag(option[0]!)}" cannot be "${option[1]}". ${withoutStop(option[2]!)}`;
  const argument = match(/^command-argument value '(.*)' is invalid for argument '(.*?)'\. (.*)$/s, text);
  if (argument)
    return `The argument "${argument[1]}" cannot be "${argument[0]}". ${withoutStop(argument[2]!)}`;
  const tooMany = match(/^too many arguments.* Expected (\d+) arguments? but got (\d+): (.*)\.$/s, text);
  if (tooMany) {
    const [wanted, given, which] = tooMany;
    return `"${command}" takes ${wanted === '0' ? 'no arguments' : wanted === '1' ? 'one argument' : `${wanted} arguments`}, and was given ${given}: ${which}`;
  }
  return withoutStop(text);
}

function match(pattern: RegExp, text: string): string[] | undefined {
  return pattern.exec(text)?.slice(1);
}

/** `--signal` of `-s, --signal <signal>` */
function longFlag(flags: string): string {
  return /--[a-z-]+/.exec(flags)?.[0] ?? flags;
}

function withoutStop(sentence: string): string {
  return sentence.replace(/\.$/, '');
}
