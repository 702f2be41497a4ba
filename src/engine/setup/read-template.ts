import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Template } from '../../state/templates.ts';
import { parseBangerToml } from './banger-toml.ts';
import { parseDevcontainer } from './devcontainer.ts';

/** Where a tree says what its VM shall be like. The first that is there counts. */
const tomlFile = 'banger.toml';
const devcontainerDirectory = '.devcontainer';
const usualFiles = [tomlFile, `${devcontainerDirectory}/devcontainer.json`, '.devcontainer.json'];

/** A person reads it before agreeing to it. */
const maxBytes = 64 * 1024;

export interface ReadTemplate {
  readonly template: Template;
  /** What the file asks for and does not get */
  readonly warnings: readonly string[];
}

/**
 * Reads what the tree at `hostPath` says about its VM; undefined when it says nothing.
 *
 * The tree may be a stranger's: symlinks are not followed, and nothing that the file names is run or opened.
 * `hasImage`: the user has chosen an image, so that the file need not have one. `file`: the user has chosen it.
 */
export async function readTemplate(
  hostPath: string,
  { hasImage, file: chosen }: { readonly hasImage: boolean; readonly file?: string },
): Promise<ReadTemplate | undefined> {
  const files = chosen === undefined ? await filesOf(hostPath) : [chosen].filter(isTemplateFile);
  for (const file of files) {
    const path = join(hostPath, file);
    const bytes = await readPlainFile(hostPath, file);
    if (!bytes) continue;
    const about = {
      file,
      path,
      hostPath,
      hasImage,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    };
    const text = decode(bytes, path);
    if (file === tomlFile) return { template: parseBangerToml(text, about), warnings: [] };
    return parseDevcontainer(text, about);
  }
  if (chosen === undefined) return undefined;
  const there = await present(hostPath, [...usualFiles, ...(await namedFiles(hostPath))]);
  throw new BangerError('not_found', `"${hostPath}" has no "${chosen}"`, {
    hint:
      there.length > 0
        ? `Choose what it has: --template ${there.join(', or --template ')}`
        : 'It has nothing of that kind. Leave out --template',
  });
}

/** Files to look for in turn. Of several of which none is the usual one, the user has to choose. */
async function filesOf(hostPath: string): Promise<readonly string[]> {
  const usual = await present(hostPath, usualFiles);
  if (usual.length > 0) return usual;
  const named = await namedFiles(hostPath);
  if (named.length <= 1) return named;
  const shown = named.slice(0, mostShown).map((file) => `"${file}"`);
  const more = named.length > shown.length ? ` and ${named.length - shown.length} more` : '';
  throw new BangerError(
    'invalid_argument',
    `"${hostPath}" says in several files what its VM is like: ${shown.join(', ')}${more}`,
    { hint: `Choose one: --template ${named[0]}; or go without: --no-template` },
  );
}

const mostShown = 10;

/** As devcontainers are named: a directory for each, and one deep. */
async function namedFiles(hostPath: string): Promise<readonly string[]> {
  const names = await readdir(join(hostPath, devcontainerDirectory)).catch(() => []);
  const files = names.sort().map((name) => `${devcontainerDirectory}/${name}/devcontainer.json`);
  return present(hostPath, files);
}

/** Those that are there. A symlink that leads nowhere counts: it is refused when it is read. */
async function present(hostPath: string, files: readonly string[]): Promise<readonly string[]> {
  const found = files.map(async (file) => {
    const stats = await lstat(join(hostPath, file)).catch(() => undefined);
    return stats ? [file] : [];
  });
  return (await Promise.all(found)).flat();
}

/** One of the files that this reads, and no other file of the tree or beside it. */
function isTemplateFile(file: string): boolean {
  return usualFiles.includes(file) || /^\.devcontainer\/(?!\.\.?\/)[^/\0]+\/devcontainer\.json$/.test(file);
}

/** Undefined when there is no such file. Throws for what is there and cannot be trusted to be one. */
async function readPlainFile(hostPath: string, file: string): Promise<Buffer | undefined> {
  const path = join(hostPath, file);
  try {
    for (let above = dirname(path); above !== hostPath; above = dirname(above))
      if ((await lstat(above)).isSymbolicLink()) throw refusal(above, 'is a symlink');
    // Without O_NONBLOCK a named pipe would be waited for.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using file = await open(path, flags);
    const stats = await file.stat();
    if (!stats.isFile()) throw refusal(path, 'is not a regular file');
    const buffer = Buffer.alloc(maxBytes + 1);
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
    if (bytesRead > maxBytes) throw refusal(path, `has more than ${maxBytes / 1024} KiB`);
    return buffer.subarray(0, bytesRead);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    if (errno === 'ELOOP') throw refusal(path, 'is a symlink');
    if (errno === 'EACCES') throw refusal(path, 'cannot be read');
    throw error;
  }
}

function decode(bytes: Buffer, path: string): string {
  const text = bytes.toString('utf8');
  if (Buffer.from(text).equals(bytes)) return text;
  throw refusal(path, 'is not UTF-8');
}

function refusal(path: string, what: string): BangerError {
  return new BangerError('invalid_argument', `"${path}" ${what}, and is not used`, {
    hint: 'Make it a plain file, or go without it: --no-template',
  });
}
