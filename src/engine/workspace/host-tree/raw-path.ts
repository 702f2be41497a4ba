/**
 * A path inside a working tree as git stores it: bytes, one per character (latin1), so that names which are
 * not UTF-8 survive. Never shown or sent to clients without `displayPath`.
 */
export type RawPath = string;

/** Splits the output of a git command run with `-z`. The parts do not keep the whole of it in memory. */
export function splitRaw(output: Buffer): RawPath[] {
  const parts: RawPath[] = [];
  for (let at = 0, end = output.indexOf(0); end !== -1; at = end + 1, end = output.indexOf(0, at)) {
    parts.push(output.toString('latin1', at, end));
  }
  return parts;
}

/** The bytes of a path below a directory of the host. */
export function hostBytes(directory: string, path: RawPath): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, 'latin1')]);
}

/** The same for calls that take either: text costs half as much where both are one. */
export function hostPath(directory: string, path: RawPath): string | Buffer {
  return isAscii(path) ? `${directory}/${path}` : hostBytes(directory, path);
}

function isAscii(path: RawPath): boolean {
  return /^[\0-\x7f]*$/.test(path);
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

const escapes: Readonly<Record<string, string>> = {
  a: '\u0007',
  b: '\b',
  t: '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
  '"': '"',
  '\\': '\\',
};

/** A path as git prints it: as it is, or in quotes like a string of C. Undefined when the quotes are not right. */
export function unquotedPath(text: string): RawPath | undefined {
  if (!text.startsWith('"')) return text;
  if (!/^"(?:[^"\\]|\\(?:[abtnvfr"\\]|[0-3][0-7]{2}))*"$/.test(text)) return undefined;
  return text
    .slice(1, -1)
    .replace(/\\(?:([0-7]{3})|(.))/g, (_, octal: string | undefined, letter: string) =>
      octal === undefined ? escapes[letter]! : String.fromCharCode(parseInt(octal, 8)),
    );
}

/**
 * True for a path that git could have in a tree: relative, no empty, `.` or `..` part, no zero byte, and no `.git` in
 * any spelling that some filesystem takes for it. Others would lead out of a working tree, or into its repository.
 */
export function isTreePath(path: RawPath): boolean {
  if (isPlain(path)) return true;
  return path !== '' && !path.includes('\0') && path.split('/').every(isTreeName);
}

/** Most paths, which need not be taken apart: what is refused of ASCII has `.git` or `git~` in it, or a part of nothing but dots. */
function isPlain(path: RawPath): boolean {
  return /^[ -~]+$/.test(path) && !/\.git|git~|(?:^|\/)(?:\.\.?)?(?:\/|$)/i.test(path);
}

/** Characters that macOS leaves out of names. */
const ignoredByMacOs = /[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]/g;

function isTreeName(name: string): boolean {
  if (/^(?:|\.|\.\.)$/.test(name)) return false;
  // Windows leaves out dots and spaces at the end, and a colon with what follows; `git~1` is its short name.
  if (/^(?:\.git|git~1)[ .]*(?::.*)?$/is.test(name)) return false;
  const folded = Buffer.from(name, 'latin1').toString('utf8').replace(ignoredByMacOs, '');
  return !/^\.git$/i.test(folded);
}
