import { createHash } from 'node:crypto';
import { parse, stringify, TomlError } from 'smol-toml';
import * as z from 'zod/mini';
import { findMiseFiles } from './mise-places.ts';

/** Files by which a tree names the tools that it wants from mise. */
export const toolFileNames = [
  'mise.toml',
  '.mise.toml',
  '.tool-versions',
  'mise/config.toml',
  '.config/mise.toml',
  '.config/mise/config.toml',
] as const;

/** A file of a tree, or what is in the place of one. */
export interface ToolFile {
  readonly name: string;
  /** All of it; in brackets what it is, when it cannot be shown */
  readonly text: string;
  readonly isUnseen?: boolean;
}

/** The tools that a tree names: which file does, and what all such files say, as a hash. */
export interface ToolFiles {
  readonly first: string;
  readonly sha256: string;
  /** What takes consent: by these, mise would do more than install tools, set variables or run commands */
  readonly demanding: readonly ToolFile[];
  /** Of the others, the tools that they name and nothing else, as files for mise */
  readonly plain: readonly ToolFile[];
}

/** Looks for such files at the top of a tree; undefined when there are none. */
export async function findToolFiles(hostPath: string): Promise<ToolFiles | undefined> {
  const hash = createHash('sha256');
  const demanding: ToolFile[] = [];
  const plain: ToolFile[] = [];
  const names = new Set<string>();
  for (const { name, bytes, what = '' } of await findMiseFiles(hostPath)) {
    names.add(name);
    const content = bytes ?? Buffer.from(what);
    hash.update(`${name}\0${content.length}\0`).update(content);
    // It says where tools come from: without consent mise does not get to see it.
    if (bytes && name.endsWith('.lock')) continue;
    const text = bytes?.toString('utf8');
    const tools = text === undefined ? undefined : toolsOnly(name, text);
    if (text === undefined) demanding.push({ name, text: `(${what})`, isUnseen: true });
    else if (tools === undefined) demanding.push({ name, text });
    else plain.push({ name, text: tools });
  }
  const first = toolFileNames.find((name) => names.has(name));
  return first === undefined ? undefined : { first, sha256: hash.digest('hex'), demanding, plain };
}

/** As in mise's own register: others say where to get something from, and that is run to install it. */
const toolName = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const toolVersion = /^(?:(?:prefix:|sub-[\d.]+:)?[A-Za-z0-9<>=~^*][A-Za-z0-9 ._+*<>=~^-]*|lts\/[a-z]+)$/;

const plainVersion = z.string().check(z.regex(toolVersion));
const version = z.union([plainVersion, z.strictObject({ version: plainVersion })]);
const tools = z.record(z.string().check(z.regex(toolName)), z.union([version, z.array(version)]));
const toolFile = z.strictObject({ min_version: z.optional(z.unknown()), tools: z.optional(tools) });

/**
 * The tools that a file names, written anew; undefined when it says anything else. Text in `{{…}}` is worked out, by
 * commands too.
 */
function toolsOnly(name: string, text: string): string | undefined {
  if (/\{[{%#]/.test(text)) return undefined;
  if (name === '.tool-versions') return versionsOnly(text);
  if (!toolFileNames.some((each) => each === name) && !/(?:^|\/)[^/]*\.toml$/.test(name)) return undefined;
  try {
    const parsed = z.safeParse(toolFile, parse(text));
    return parsed.success ? stringify({ tools: parsed.data.tools ?? {} }) : undefined;
  } catch (error) {
    if (error instanceof TomlError) return undefined;
    throw error;
  }
}

function versionsOnly(text: string): string | undefined {
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim().split(/\s+/));
  const named = lines.filter(([name]) => name !== '');
  const isPlain = named.every(
    ([name, ...versions]) => toolName.test(name!) && versions.every((each) => toolVersion.test(each)),
  );
  return isPlain ? named.map((words) => `${words.join(' ')}\n`).join('') : undefined;
}
