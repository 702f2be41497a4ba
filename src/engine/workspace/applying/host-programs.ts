import { basename, isAbsolute, join, relative, resolve } from 'node:path';
import type { MergedPath } from './merge-changes.ts';
import { blobSizes, mostReadBytes } from '../host-tree/blob-sizes.ts';
import { displayPath, type RawPath } from '../host-tree/raw-path.ts';
import type { Repository } from '../host-tree/repository.ts';
import type { GitVariables } from '../host-tree/scratch-objects.ts';

interface WarnInput {
  readonly repository: Repository;
  readonly env: GitVariables;
  /** Git tree of the host's files as they were */
  readonly before: string;
}

/**
 * Warns of files from a guest by which git on this host would run something, now or at the next command: hooks and
 * scripts that its configuration names, and attributes that choose a program of the host. Nothing of it has run.
 */
export async function runnableWarnings(written: readonly MergedPath[], input: WarnInput): Promise<string[]> {
  const warnings: string[] = [];
  for (const { path, result } of written) {
    if (!result) continue;
    const setting = settingThatNames(path, input.repository);
    if (setting !== undefined)
      warnings.push(
        `"${displayPath(path)}" is run or read by git here, as ${setting} says: look at it before you use git`,
      );
    if (basename(path) !== '.gitattributes') continue;
    const size = (await blobSizes(input.repository, [result.oid], input.env)).get(result.oid) ?? 0;
    if (size > mostReadBytes) {
      warnings.push(
        `"${displayPath(path)}" is too large to be searched for programs that git here would run: look at it before you use git`,
      );
      continue;
    }
    for (const program of await newPrograms(path, result.oid, input))
      warnings.push(`"${displayPath(path)}" has git here run its ${program} over files that the VM chose`);
  }
  return warnings;
}

/** The setting by which git finds a file of the tree: as a hook, a program, or more configuration. */
function settingThatNames(path: RawPath, { config, topLevel, paths }: Repository): string | undefined {
  const file = join(topLevel, Buffer.from(path, 'latin1').toString('utf8'));
  for (const [name, values] of config) {
    // Relative to the working tree, but for files of settings.
    const base = name === 'include.path' || name.startsWith('includeif.') ? paths.git : topLevel;
    // All values: ours, by which nothing runs while this is worked out, comes last.
    if (name === 'core.hookspath' && values.some((value) => isBelow(file, resolve(base, value)))) return name;
    if (!runsOrReads.test(name)) continue;
    const words = values
      .flatMap((each) => each.split(/[\s;&|()<>"'`]+/))
      .map((word) => word.replace(/^!/, ''));
    if (words.some((word) => word.includes('/') && resolve(base, word) === file)) return name;
  }
  return undefined;
}

/** Settings that are command lines, or name files with more settings. */
const runsOrReads =
  /^(?:include\.path|includeif\.[^]*\.path|core\.(?:fsmonitor|editor|pager|sshcommand|askpass|attributesfile|excludesfile|gitproxy)|alias\.|pager\.|sequence\.editor|credential\.[^]*|diff\.(?:external|[^]+\.(?:command|textconv))|filter\.[^]+\.(?:clean|smudge|process)|merge\.[^]+\.driver|(?:diff|merge)tool\.[^]+\.(?:cmd|path)|gpg\.[^]*program|interactive\.difffilter|remote\.[^]+\.(?:uploadpack|receivepack)|submodule\.[^]+\.update|trailer\.[^]+\.(?:command|cmd)|uploadpack\.packobjectshook)/;

function isBelow(path: string, directory: string): boolean {
  const way = relative(directory, path);
  return way !== '..' && !way.startsWith('../') && !isAbsolute(way);
}

const drivers = {
  filter: /^(?:clean|smudge|process)$/,
  diff: /^(?:command|textconv)$/,
  merge: /^driver$/,
} as const;

/** Programs of this host that the attributes of a file name, and did not before. */
async function newPrograms(
  path: RawPath,
  oid: string,
  { repository, env, before }: WarnInput,
): Promise<string[]> {
  const { git, config } = repository;
  const read = async (name: string): Promise<string> => {
    return (await git(['cat-file', 'blob', name], { env, okExitCodes: [128] })).stdout.toString('latin1');
  };
  const known = new Set(
    (await read(`${before}:${Buffer.from(path, 'latin1').toString('utf8')}`)).split('\n'),
  );
  const lines = (await read(oid)).split('\n').filter((line) => !known.has(line));
  const found = new Set<string>();
  for (const line of lines) {
    for (const [, kind, name] of line.matchAll(/\b(filter|diff|merge)=(\S+)/g)) {
      const parts = drivers[kind as keyof typeof drivers];
      const begin = `${kind}.${Buffer.from(name!, 'latin1').toString('utf8')}.`;
      const isProgram = [...config.keys()].some(
        (key) => key.startsWith(begin) && parts.test(key.slice(begin.length)),
      );
      if (isProgram) found.add(`${kind} "${displayPath(name!)}"`);
    }
  }
  return [...found];
}
