import { BangerError } from '../../../errors.ts';

/** What a file is fetched for: hints name these commands. */
export interface DownloadUse {
  /** Command that takes an address, such as `banger kernel pull` */
  readonly pull: string;
  /** Command that takes a file, such as `banger kernel import FILE` */
  readonly useFile: string;
  readonly maxBytes: number;
}

/** A file on a server, whose content is known in advance. */
export interface Download {
  readonly url: URL;
  /** Hex */
  readonly sha256: string;
  readonly use: DownloadUse;
}

/** An address for people, files and the database: what follows its question mark may be a key to it. */
export function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}${url.search === '' ? '' : '?…'}`;
}

/** Reads `https://…#sha256=HEX`; the hash may also come beside it. Without one nothing is fetched. */
export function parseDownload(text: string, use: DownloadUse, sha256?: string): Download {
  const url = URL.parse(text);
  if (!url || !['http:', 'https:'].includes(url.protocol))
    throw new BangerError('invalid_argument', 'That is not an http or https address');
  if (url.username || url.password)
    throw new BangerError('invalid_argument', `The address at "${url.host}" has a password in it`, {
      hint: `Fetch the file with a tool that keeps passwords, then: ${use.useFile}`,
    });
  const inAddress = /^#sha256=(.*)$/.exec(url.hash)?.[1];
  const hash = (sha256 ?? inAddress ?? '').toLowerCase();
  url.hash = '';
  if (inAddress !== undefined && inAddress.toLowerCase() !== hash)
    throw new BangerError('invalid_argument', 'The address and --sha256 name different hashes');
  if (/^[0-9a-f]{64}$/.test(hash)) return { url, sha256: hash, use };
  throw new BangerError(
    'invalid_argument',
    hash === ''
      ? `No hash is given for "${shownUrl(url)}"`
      : `"${hash.slice(0, 80)}" is not a SHA-256 of 64 hex digits`,
    { hint: `Take it from where the file is announced: ${use.pull} ${shownUrl(url)} --sha256 HEX` },
  );
}
