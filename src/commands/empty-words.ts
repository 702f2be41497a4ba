import type { Command } from 'commander';
import { UsageError } from './usage-error.ts';

/**
 * Throws when an argument or an option is empty, which nothing of ours can be: mostly a shell variable that is not set.
 * Words for a guest's program may be anything.
 */
export function refuseEmptyWords(command: Command): void {
  const refuse = (what: string): never => {
    const words = [command.name()];
    for (let above = command.parent; above; above = above.parent) words.unshift(above.name());
    throw new UsageError(`${what} is empty`, `See what it takes with: ${words.join(' ')} --help`);
  };
  for (const [at, argument] of command.registeredArguments.entries()) {
    const given: unknown = command.processedArgs[at];
    const isEmpty = given === '' || (Array.isArray(given) && given.includes(''));
    if (isEmpty && argument.name() !== 'command') refuse(`The argument "${argument.name()}"`);
  }
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValue(name) === '' && command.getOptionValueSource(name) === 'cli')
      refuse(`The option "${option.long ?? option.flags}"`);
  }
}
