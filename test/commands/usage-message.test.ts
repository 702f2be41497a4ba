import { expect, test } from 'vitest';
import { usageErrorOf } from '../../src/commands/usage-message.ts';

const said = (complaint: string, words = 'banger vm stop', elsewhere: readonly string[] = []) => {
  const { message, hint } = usageErrorOf(complaint, { words: words.split(' '), elsewhere: () => elsewhere });
  return [message, hint];
};
const help = 'See what it takes with: banger vm stop --help';

test.each([
  ["error: missing required argument 'vm'", '"banger vm stop" needs the argument "vm"'],
  ["error: required option '--name <name>' not specified", '"banger vm stop" needs the option "--name"'],
  ["error: option '-s, --signal <signal>' argument missing", 'The option "--signal" needs a value'],
  [
    "error: option '-t, --timeout <time>' argument 'a\nb' is invalid. It must be a time.",
    'The option "--timeout" cannot be "a\nb". It must be a time',
  ],
  [
    "error: command-argument value 'a b' is invalid for argument 'name'. A name has no space.",
    'The argument "name" cannot be "a b". A name has no space',
  ],
  [
    "error: too many arguments for 'stop'. Expected 1 argument but got 2: a, b.",
    '"banger vm stop" takes one argument, and was given 2: a, b',
  ],
  ["error: unknown option '--al'", '"banger vm stop" has no option "--al"'],
  ['error: something new.', 'something new'],
])('%s', (complaint, message) => {
  expect(said(complaint)).toEqual([message, help]);
});

test('what was meant is a command that works when pasted', () => {
  expect(said("error: unknown command 'stpo'\n(Did you mean stop?)", 'banger vm')).toEqual([
    'There is no command "banger vm stpo"',
    'Did you mean: banger vm stop',
  ]);
  expect(said("error: unknown option '--lable'\n(Did you mean one of --label, --labels?)")).toEqual([
    '"banger vm stop" has no option "--lable"',
    'Did you mean: --label, or --labels',
  ]);
  expect(said("error: unknown command 'xyz'", 'banger vm')[1]).toBe('List commands with: banger vm --help');
});

test('a verb without its noun is told with every noun that has it', () => {
  const [, hint] = said("error: unknown command 'rm'\n(Did you mean vm?)", 'banger', [
    'banger vm delete',
    'banger image delete',
  ]);
  expect(hint).toBe('Did you mean: banger vm delete, or banger image delete');
});

test.each([
  ['banger', 'login', 'Registries get the logins that docker has: docker login REGISTRY'],
  ['banger image', 'load', 'Did you mean: banger image import FILE, or banger image import - --name NAME'],
  ['banger vm', 'login', 'Did you mean: banger vm engine'],
])('what docker calls otherwise is told: %s %s', (words, name, hint) => {
  expect(said(`error: unknown command '${name}'\n(Did you mean engine?)`, words)[1]).toBe(hint);
});

test('force that would not do what it does for docker is told with what does', () => {
  for (const option of ['-f', '--force'])
    expect(said(`error: unknown option '${option}'`, 'banger image delete')[1]).toMatch(
      /^An image that VMs use goes after them: banger vm delete VM/,
    );
});
