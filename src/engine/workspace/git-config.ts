/** What git is configured to, by lower-case name (subsections keep their case); the last value of each. */
export type GitConfig = ReadonlyMap<string, string>;

/** Parses `git config --list -z`. */
export function parseGitConfig(output: Buffer): GitConfig {
  const config = new Map<string, string>();
  for (const entry of output.toString('utf8').split('\0')) {
    if (entry === '') continue;
    const newline = entry.indexOf('\n');
    // A name without a value, as in a bare `autocrlf`, means true.
    if (newline === -1) config.set(entry, 'true');
    else config.set(entry.slice(0, newline), entry.slice(newline + 1));
  }
  return config;
}

/**
 * Settings that switch off every configured filter driver (LFS and the like): their programs belong to the
 * host, and the guest is to compare the bytes it was sent.
 */
export function withoutFilters(config: GitConfig): [name: string, value: string][] {
  const drivers = new Set<string>();
  for (const name of config.keys()) {
    const match = /^(filter\.[^]+)\.(?:clean|smudge|process|required)$/.exec(name);
    if (match) drivers.add(match[1]!);
  }
  return [...drivers].flatMap((driver): [string, string][] => [
    [`${driver}.clean`, ''],
    [`${driver}.smudge`, ''],
    [`${driver}.process`, ''],
    [`${driver}.required`, 'false'],
  ]);
}

/** How the guest's copy of the repository is set up. */
export interface GuestRepository {
  readonly objectFormat: string;
  readonly branch?: string;
  /** Values visible to the repository on the host */
  readonly config: GitConfig;
}

/** Decide how working files compare to what git stores; must be equal on both sides. Others stay behind. */
const carriedSettings = ['core.filemode', 'core.symlinks', 'core.autocrlf', 'core.eol'];

/** The text of the guest's `.git/config`: a fixed set of values, nothing that runs a program. */
export function guestConfigText({ objectFormat, branch, config }: GuestRepository): string {
  const isDefaultFormat = objectFormat === 'sha1';
  const core: [string, string | undefined][] = [
    ['repositoryformatversion', isDefaultFormat ? '0' : '1'],
    ['bare', 'false'],
    ['logallrefupdates', 'true'],
    // The index comes with sizes and times of the host's files, which these have too: git need not read them all.
    ['checkstat', 'minimal'],
    ['trustctime', 'false'],
    ...carriedSettings.map((name): [string, string | undefined] => [
      name.slice('core.'.length),
      config.get(name),
    ]),
  ];
  const origin = config.get('remote.origin.url');
  const merge = branch && config.get(`branch.${branch}.merge`);
  return [
    section('core', core),
    section('extensions', [['objectformat', isDefaultFormat ? undefined : objectFormat]]),
    section('remote "origin"', [
      ['url', origin && withoutCredentials(origin)],
      ['fetch', origin && '+refs/heads/*:refs/remotes/origin/*'],
    ]),
    section(`branch "${escapeSubsection(branch ?? '')}"`, [
      ['remote', merge && config.get(`branch.${branch}.remote`) === 'origin' ? 'origin' : undefined],
      ['merge', merge && config.get(`branch.${branch}.remote`) === 'origin' ? merge : undefined],
    ]),
    section('user', [
      ['name', config.get('user.name')],
      ['email', config.get('user.email')],
    ]),
  ].join('');
}

/**
 * A remote's URL without what logs somebody in: user and password of web URLs, the password of others, and
 * query strings. An scp-like `git@host:path` has no password.
 */
export function withoutCredentials(url: string): string {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*)([^]*)$/i.exec(url);
  if (!match) return url;
  const [, scheme, authority, rest] = match;
  const at = authority!.lastIndexOf('@');
  const host = authority!.slice(at + 1);
  const user = authority!.slice(0, Math.max(at, 0)).split(':')[0]!;
  const isWeb = /^(?:https?|ftps?):/i.test(scheme!);
  const path = isWeb ? rest!.replace(/[?#][^]*$/, '') : rest!;
  return `${scheme}${isWeb || user === '' ? '' : `${user}@`}${host}${path}`;
}

function section(name: string, values: readonly (readonly [string, string | undefined])[]): string {
  const lines = values.filter(([, value]) => value !== undefined && value !== '');
  if (lines.length === 0) return '';
  return `[${name}]\n${lines.map(([key, value]) => `\t${key} = ${quoteValue(value!)}\n`).join('')}`;
}

function quoteValue(value: string): string {
  const escaped = value
    .replace(/\0/g, '')
    .replace(/[\\"]/g, '\\$&')
    .replace(/\n/g, '\\n')
    .replace(/\t/g, '\\t');
  return `"${escaped}"`;
}

function escapeSubsection(name: string): string {
  return name.replace(/[\0\n]/g, '').replace(/[\\"]/g, '\\$&');
}
