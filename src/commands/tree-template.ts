import { posix } from 'node:path';
import { Option, type Command } from 'commander';
import type { ParamsOf, ResultOf } from '../engine/rpc/method.ts';
import { templateRead } from '../engine/rpc/template-methods.ts';
import type { vmRun } from '../engine/rpc/vm-methods.ts';
import { BangerError } from '../errors.ts';
import { printable } from '../printable.ts';
import { formatBytes } from '../state/units.ts';
import type { Cli } from './cli.ts';

/** What `vm run` and `workspace prepare` ask about what the tree says itself. */
export interface TemplateOptions {
  /** A file of the tree; false with `--no-template` */
  readonly template?: string | false;
  readonly trust?: boolean;
  readonly yes?: boolean;
  /** False with `--no-bootstrap` */
  readonly bootstrap: boolean;
}

export function addTemplateOptions(command: Command): Command {
  return command
    .option(
      '--template <file>',
      'which of them to use where a tree has several, such as .devcontainer/api/devcontainer.json',
    )
    .option('--no-template', "do not use the tree's banger.toml or devcontainer.json")
    .option(
      '--trust',
      'agree to all that it asks for (image, commands, variables, ports …), and to what its mise files do, without being asked',
    )
    .option('--no-bootstrap', 'do not install the tools that the tree names for mise')
    .addOption(new Option('-y, --yes', 'as --trust').hideHelp());
}

type Choice = Pick<ParamsOf<typeof vmRun>, 'template' | 'trustTools'>;
type Says = ResultOf<typeof templateRead>;
type Template = NonNullable<Says['template']>;

/**
 * Reads what a tree says about its VM, tells what of it will be used, and asks about what takes consent. Throws when the
 * user does not agree, or there is nobody to ask.
 */
export async function chooseTemplate(
  cli: Cli,
  path: string,
  options: TemplateOptions & { readonly image?: string; readonly unlessBound?: boolean },
): Promise<Choice> {
  const usesTemplate = options.template !== false;
  if (!usesTemplate && !options.bootstrap) return {};
  const file = options.template ? posix.normalize(options.template) : undefined;
  const { hostPath, template, tools } = await cli.call(templateRead, {
    path,
    hasImage: options.image !== undefined,
    toolsOnly: !usesTemplate,
    file,
    unlessBound: options.unlessBound ?? false,
  });
  const isAsked = options.trust === true || options.yes === true;
  const isForTools = options.bootstrap && tools !== undefined;
  if (isForTools && !isAsked) await askForTools(cli, hostPath, tools);
  const trustTools = isForTools ? tools.sha256 : undefined;
  if (!template && file !== undefined)
    cli.say(`"${printable(file)}" is not used: the tree has a VM already, which stays as it is`);
  if (!template || !usesTemplate) return { trustTools };
  for (const warning of template.warnings) cli.say(`Warning: ${printable(warning)}`);
  if (!template.isAgreed && !isAsked) await askToAgree(cli, hostPath, template);
  const says = templateText(template);
  if (says !== '') cli.say(printable(`Using ${template.file}: ${says}`));
  return { template: { sha256: template.sha256, file, trust: !template.isAgreed }, trustTools };
}

async function askToAgree(cli: Cli, hostPath: string, { file, asksFor }: Template): Promise<void> {
  const { image, commands, variables, place, ports } = asksFor;
  for (const line of demandLines(`"${file}" of "${hostPath}"`, asksFor)) cli.say(line);
  const answer = await cli.ask('Agree to that, as long as the file stays as it is?');
  if (answer) return;
  const what = enumerated([
    ...(image === undefined ? [] : ['an image that is not known here']),
    ...(commands.length > 0 ? [count(commands.length, 'setup command')] : []),
    ...(variables.length > 0
      ? [`${count(variables.length, 'variable')} by which programs may run code`]
      : []),
    ...(place === undefined ? [] : ['a place where programs look for files']),
    ...(ports.length > 0 ? [`${count(ports.length, 'port')} open to others`] : []),
  ]);
  const isRefused = answer === false;
  throw new BangerError(
    'invalid_argument',
    isRefused
      ? `"${file}" was not agreed to, and no VM was made`
      : `"${file}" asks for ${what}, nobody has agreed to that, and there is no terminal to ask on`,
    {
      hint: isRefused
        ? 'To go without the file: --no-template'
        : `Read it: cat -v ${hostPath}/${file}; then agree with --trust, or go without it: --no-template`,
    },
  );
}

/** Shows every line: which of them run something is mise's business. */
async function askForTools(cli: Cli, hostPath: string, { files }: NonNullable<Says['tools']>): Promise<void> {
  for (const { name, text } of files) {
    cli.say(printable(`"${name}" of "${hostPath}" has mise do more in the VM than install tools:`));
    for (const line of text.replace(/\n$/, '').split('\n')) cli.say(printable(`  ${line}`));
  }
  const answer = await cli.ask('Agree to that, as long as these files stay as they are?');
  if (answer) return;
  const names = files.map(({ name }) => `"${name}"`).join(', ');
  const without = 'go without the tools: --no-bootstrap';
  throw new BangerError(
    'invalid_argument',
    answer === false
      ? `${names} was not agreed to, and nothing was done`
      : `${names} has mise do more than install tools, nobody has agreed to that, and there is no terminal to ask on`,
    { hint: answer === false ? `To ${without}` : `Read it, then agree with --trust, or ${without}` },
  );
}

/** Everything that is agreed to, in full, and why: a text that is cut or obeyed by the terminal could hide something. */
function demandLines(
  file: string,
  { image, commands, variables, place, ports }: Template['asksFor'],
): string[] {
  const section = (what: string, lines: readonly string[]): string[] =>
    lines.length === 0 ? [] : [`  ${what}:`, ...lines.map((line) => `    ${line}`)];
  const shown = commands.flatMap((command) => {
    const [first = '', ...rest] = command.split('\n');
    return [`$ ${first}`, ...rest.map((line) => `  ${line}`)];
  });
  return [
    `${file} wants:`,
    ...section(
      'an image that is not known here, and what is in it runs in the VM as root',
      image === undefined ? [] : [image],
    ),
    ...section('to run in the VM, as root', shown),
    ...section('variables in the VM by which programs may run code, or ask other servers', variables),
    ...section(
      'to be in the VM where programs may look for settings, or for other programs',
      place === undefined ? [] : [place],
    ),
    ...section('ports of this host that others can reach', ports),
  ].map(printable);
}

/** `image node:22, 2 CPUs, 2 GiB of memory, port 3000, 2 setup commands` */
function templateText(template: Template): string {
  const { image, cpus, memoryMib, diskBytes, guestPath, ports, env, setup } = template;
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return [
    image === undefined ? '' : `image ${image}`,
    cpus === undefined ? '' : count(cpus, 'CPU'),
    memoryMib === undefined ? '' : `${formatBytes(memoryMib * 1024 ** 2)} of memory`,
    diskBytes === undefined ? '' : `a disk of ${formatBytes(diskBytes)}`,
    guestPath === undefined ? '' : `in ${guestPath}`,
    ports.length === 0 ? '' : `${ports.length === 1 ? 'port' : 'ports'} ${ports.join(', ')}`,
    variables.length === 0
      ? ''
      : `${variables.length === 1 ? 'variable' : 'variables'} ${variables.join(', ')}`,
    setup.length === 0 ? '' : count(setup.length, 'setup command'),
  ]
    .filter((part) => part !== '')
    .join(', ');
}

/** `a, b and c` */
function enumerated(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)!}`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
