import { posix } from 'node:path';
import * as z from 'zod/mini';
import { BangerError, errorText } from '../../errors.ts';
import type { SetupCommand, Template, TemplatePort } from '../../state/templates.ts';
import { problems } from '../../state/toml.ts';
import { defaultGuestPath, parseGuestPath } from '../workspace/guest-path.ts';
import { samePort, setupCommand, variableName } from './banger-toml.ts';
import { fillIn, fillInLine, missingOf, type Known } from './devcontainer-variables.ts';
import { parseJsonWithComments } from './json-with-comments.ts';

const words = z.array(z.string()).check(z.minLength(1));
const lineOrWords = z.union([z.string(), words], 'is neither a command nor an array of words');
const command = z.union(
  [lineOrWords, z.record(z.string(), lineOrWords)],
  'is neither a command, an array of words, nor an object of those',
);
const variables = z.record(z.string(), z.nullable(z.string()));

/** What we honour of a devcontainer.json. Other keys are named in a warning, since other tools do more with it. */
const schema = z.looseObject({
  image: z.optional(z.string().check(z.regex(/\S/, 'is empty'))),
  forwardPorts: z.optional(z.array(z.union([z.int().check(z.minimum(1), z.maximum(65_535)), z.string()]))),
  containerEnv: z.optional(variables),
  remoteEnv: z.optional(variables),
  workspaceFolder: z.optional(z.string()),
  onCreateCommand: z.optional(command),
  updateContentCommand: z.optional(command),
  postCreateCommand: z.optional(command),
});
type Devcontainer = z.output<typeof schema>;

/** Keys that are about editors, or say nothing that a VM could do otherwise. */
const harmless = new Set([
  '$schema',
  'name',
  'customizations',
  'portsAttributes',
  'otherPortsAttributes',
  'updateRemoteUserUID',
]);

/** Of these, an image is built: without another image there is nothing that a VM could be made from. */
const buildKeys = ['build', 'dockerFile', 'dockerComposeFile'];

export interface ReadDevcontainer {
  readonly template: Template;
  /** What the file asks for and does not get */
  readonly warnings: readonly string[];
}

/**
 * Parses a devcontainer.json for the tree at `hostPath`. `path` is the file's own, for messages. Throws when it
 * contradicts the format, or when the image would have to be built and `hasImage` is false.
 */
export function parseDevcontainer(
  text: string,
  about: Pick<Template, 'file' | 'sha256'> & {
    readonly path: string;
    readonly hostPath: string;
    readonly hasImage: boolean;
  },
): ReadDevcontainer {
  const { file, hostPath } = about;
  const parsed = parse(text, about.path);
  const ignored = Object.keys(parsed).filter((key) => !(key in schema.shape) && !harmless.has(key));
  const built = buildKeys.filter((key) => key in parsed);
  if (built.length > 0 && parsed.image === undefined && !about.hasImage)
    throw needsBuild(about.path, built[0]!);

  const folder = parsed.workspaceFolder;
  const names = { localWorkspaceFolderBasename: posix.basename(hostPath) };
  const guestPath = folder === undefined ? undefined : workspaceFolder(fillIn(folder, { names }), about.path);
  const own = guestPath ?? defaultGuestPath(hostPath);
  const known = {
    names: {
      ...names,
      containerWorkspaceFolder: own,
      containerWorkspaceFolderBasename: posix.basename(own),
    },
  };
  const warnings: string[] = [];
  if (ignored.length > 0)
    warnings.push(
      `"${file}": ${ignored.map((key) => `"${key}"`).join(', ')} ${ignored.length === 1 ? 'is' : 'are'} not honoured`,
    );
  const ports = forwardedPorts(parsed, file, warnings);
  const env = environment(parsed, { file, known, warnings });
  const template = {
    file,
    sha256: about.sha256,
    image: parsed.image,
    ports,
    env,
    setup: setupCommands(parsed, { file, known: { ...known, containerEnv: env }, warnings }),
    guestPath,
    bootstrap: true,
  };
  return { template, warnings };
}

function parse(text: string, path: string): Devcontainer {
  const correct = { hint: `Correct it with: \${EDITOR:-vi} ${path}` };
  let value: unknown;
  try {
    value = parseJsonWithComments(text);
  } catch (error) {
    throw new BangerError('invalid_argument', `"${path}" is not JSON: ${errorText(error)}`, correct);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new BangerError('invalid_argument', `"${path}": ${problems(parsed.error, schema)}`, correct);
}

function needsBuild(path: string, key: string): BangerError {
  return new BangerError(
    'invalid_argument',
    `"${path}" has its image built ("${key}"), which banger does not do`,
    {
      hint: 'Build it with docker and take it over: docker build -t mine . && docker save mine | banger image import - --name mine; then give --image mine. Or go without the file: --no-template',
    },
  );
}

function workspaceFolder(folder: string, path: string): string {
  try {
    return parseGuestPath(folder);
  } catch (error) {
    throw new BangerError('invalid_argument', `"${path}": "workspaceFolder": ${errorText(error)}`, {
      hint: 'Give a directory of its own, such as /workspaces/project',
      cause: error,
    });
  }
}

function forwardedPorts(
  { forwardPorts = [] }: Devcontainer,
  file: string,
  warnings: string[],
): TemplatePort[] {
  return forwardPorts.flatMap((port) => {
    if (typeof port === 'number') return [samePort(port)];
    const match = /^(?:(?:localhost|127\.0\.0\.1):)?(\d{1,5})$/.exec(port);
    const number = Number(match?.[1]);
    if (number >= 1 && number <= 65_535) return [samePort(number)];
    warnings.push(`"${file}": the port "${port}" of another host is not forwarded`);
    return [];
  });
}

interface Filling {
  readonly file: string;
  readonly known: Known;
  readonly warnings: string[];
}

/** `remoteEnv` may build on `containerEnv`. Values that want something else, such as of the host, stay out. */
function environment(parsed: Devcontainer, filling: Filling): Record<string, string> {
  const containerEnv = filledVariables(parsed.containerEnv, filling);
  const known = { ...filling.known, containerEnv };
  return { ...containerEnv, ...filledVariables(parsed.remoteEnv, { ...filling, known }) };
}

function filledVariables(
  given: Devcontainer['containerEnv'],
  { file, known, warnings }: Filling,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(given ?? {})) {
    if (value === null) continue;
    const filled = fillIn(value, known);
    if (!variableName.safeParse(name).success || filled.includes('\0')) {
      warnings.push(`"${file}": the variable "${name}" cannot be set`);
    } else if (filled.includes('${')) {
      warnings.push(
        `"${file}": ${name} is not set, since banger does not fill in "${value}"; give it with: --env ${name}=VALUE`,
      );
    } else env[name] = filled;
  }
  return env;
}

/** In the order in which other tools run them. Those of an object, which others run side by side, follow each other. */
function setupCommands(parsed: Devcontainer, filling: Filling): SetupCommand[] {
  const given = [parsed.onCreateCommand, parsed.updateContentCommand, parsed.postCreateCommand];
  const lists = given.flatMap((one) => {
    if (one === undefined) return [];
    return typeof one === 'string' || Array.isArray(one) ? [one] : Object.values(one);
  });
  const isSomething = (one: string | string[]): boolean => typeof one !== 'string' || one.trim() !== '';
  return lists.filter(isSomething).map((one) => {
    const missing = missingOf([one].flat().join(' '));
    if (missing !== undefined) filling.warnings.push(`"${filling.file}": ${missing}`);
    return setupCommand(
      typeof one === 'string'
        ? fillInLine(one, filling.known)
        : one.map((word) => fillIn(word, filling.known)),
    );
  });
}
