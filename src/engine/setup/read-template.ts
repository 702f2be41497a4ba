import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BangerError, errnoOf } from '../../errors.ts';
import type { Template } from '../../state/templates.ts';
import { parseBangerToml } from './banger-toml.ts';
import { parseDevcontainer } from './devcontainer.ts';

/** Where a tree says what its VM shall be like. The first that is there counts. */
const tomlFile = 'banger.toml';
const devcontainerFiles = ['.devcontainer/devcontainer.json', '.devcontainer.json'];

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
 * `hasImage`: the user has chosen an image, so that the file need not have one.
 */
export async function readTemplate(
  hostPath: string,
  { hasImage }: { readonly hasImage: boolean },
): Promise<ReadTemplate | undefined> {
  for (const file of [tomlFile, ...devcontainerFiles]) {
    const path = join(hostPath, file);
    const bytes = await readPlainFile(path);
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
  return undefined;
}

/** Undefined when there is no such file. Throws for what is there and cannot be trusted to be one. */
async function readPlainFile(path: string): Promise<Buffer | undefined> {
  try {
    if ((await lstat(dirname(path))).isSymbolicLink()) throw refusal(dirname(path), 'is a symlink');
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
