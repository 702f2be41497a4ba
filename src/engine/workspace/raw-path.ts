/**
 * A path inside a working tree as git stores it: bytes, one per character (latin1), so that names which are
 * not UTF-8 survive. Never shown or sent to clients without `displayPath`.
 */
export type RawPath = string;

/** Splits the output of a git command run with `-z`. */
export function splitRaw(output: Buffer): RawPath[] {
  const parts = output.toString('latin1').split('\0');
  parts.pop();
  return parts;
}

/** The bytes of a path below a directory of the host. */
export function hostBytes(directory: string, path: RawPath): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, 'latin1')]);
}

/** A path for JSON: itself when it is UTF-8, else quoted as git quotes it. */
export function pathText(path: RawPath): string {
  const bytes = Buffer.from(path, 'latin1');
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? text : quoted(path);
}

/** A path for messages: control characters, which a terminal would obey, are quoted too. */
export function displayPath(path: RawPath): string {
  const text = pathText(path);
  return /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text) ? quoted(path) : text;
}

function quoted(path: RawPath): string {
  const inner = path.replace(/[\\"]/g, '\\$&').replace(/[^ -~]/g, (character) => {
    return `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`;
  });
  return `"${inner}"`;
}

/**
 * True for a path that git could have in a tree: relative, no empty, `.` or `..` part, no `.git` in any
 * spelling. Others would lead out of a working tree, or into its repository.
 */
export function isTreePath(path: RawPath): boolean {
  return path !== '' && path.split('/').every((part) => !/^(?:|\.|\.\.|\.git)$/i.test(part));
}
